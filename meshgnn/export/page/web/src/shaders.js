// Areas keep hard edges: a pixel takes the class of the triangle's nearest corner, and borders are lines of constant
// width on the screen. Values are blended first and coloured afterwards.

export const VERTEX = `
precision highp float;
uniform mat4 modelViewMatrix, projectionMatrix;
uniform mat3 normalMatrix;
uniform float morph;
in vec3 placeA, placeB, normalA, normalB, traits;
in vec4 fill, edge;
in vec2 scalar;
in float along;
out vec3 corner, facing, toEye, trait;
out vec2 value;
out float depth;
flat out vec3 fills, edges;

void main() {
  int k = gl_VertexID - 3 * (gl_VertexID / 3);
  corner = vec3(k == 0, k == 1, k == 2);
  vec4 seen = modelViewMatrix * vec4(mix(placeA, placeB, morph), 1.0);
  facing = normalMatrix * mix(normalA, normalB, morph);
  toEye = -seen.xyz;
  trait = traits;
  fills = fill.xyz;
  edges = edge.xyz;
  value = scalar;
  depth = along;
  gl_Position = projectionMatrix * seen;
}`;

export const FRAGMENT = `
precision highp float;
uniform sampler2D colours;
uniform float steps, none, plane, halfGap, planeOn, marked, hovered, borderWidth, foldShade, fine;
uniform vec2 range;
uniform vec3 noneColour;
uniform bool byValue;
in vec3 corner, facing, toEye, trait;
in vec2 value;
in float depth;
flat in vec3 fills, edges;
out vec4 pixel;

// Class of this pixel among those of the three corners, and the distance in pixels to the next border. Two corners of
// one class count together, so that borders run straight through a triangle.
vec2 split(vec3 kinds, vec3 perPixel) {
  bool xy = abs(kinds.x - kinds.y) < 0.5, yz = abs(kinds.y - kinds.z) < 0.5, zx = abs(kinds.z - kinds.x) < 0.5;
  if (xy && yz) return vec2(kinds.x, 1e3);
  if (xy) return vec2(corner.z > 0.5 ? kinds.z : kinds.x, abs(corner.z - 0.5) / perPixel.z);
  if (yz) return vec2(corner.x > 0.5 ? kinds.x : kinds.y, abs(corner.x - 0.5) / perPixel.x);
  if (zx) return vec2(corner.y > 0.5 ? kinds.y : kinds.z, abs(corner.y - 0.5) / perPixel.y);
  float high = max(corner.x, max(corner.y, corner.z)), low = min(corner.x, min(corner.y, corner.z));
  float kind = corner.x == high ? kinds.x : corner.y == high ? kinds.y : kinds.z;
  float middle = 1.0 - high - low;
  return vec2(kind, (high - middle) / (perPixel.x + perPixel.y + perPixel.z) * 1.5);
}

void main() {
  vec3 perPixel = max(fwidth(corner), vec3(1e-6));
  float planeWidth = fwidth(depth), markWidth = fwidth(trait.y);
  vec3 base = noneColour;
  float kind = split(fills, perPixel).x;
  if (byValue) {
    if (value.y > 0.5) {
      float at = clamp((value.x / value.y - range.x) / (range.y - range.x), 0.0, 1.0);
      base = texture(colours, vec2((at * (steps - 1.0) + 0.5) / steps, 0.5)).rgb;
    }
  } else if (kind < none) {
    base = texelFetch(colours, ivec2(int(kind + 0.5), 0), 0).rgb;
  }
  vec2 border = split(edges, perPixel);
  if (hovered >= 0.0 && abs(border.x - hovered) > 0.5) base = mix(base, vec3(0.93), 0.35);

  vec3 n = normalize(facing) * (gl_FrontFacing ? 1.0 : -1.0);
  vec3 eye = normalize(toEye);
  float key = dot(n, normalize(vec3(-0.35, 0.55, 0.8)));
  float fromEye = max(dot(n, eye), 0.0);
  float light = 0.50 + 0.36 * pow(max(key * 0.5 + 0.5, 0.0), 1.6) + 0.22 * fromEye;
  light *= 1.0 - foldShade * smoothstep(0.62, 0.12, trait.x) + 0.04 * smoothstep(0.5, 0.9, trait.x);
  float gloss = pow(max(dot(n, normalize(eye + normalize(vec3(-0.35, 0.55, 0.8)))), 0.0), 28.0);
  vec3 shown = base * min(light, 1.12) + 0.07 * gloss;
  shown = mix(shown, vec3(0.20, 0.24, 0.30), 0.34 * pow(1.0 - fromEye, 3.0));

  if (marked > 0.5) {
    shown = mix(mix(shown, vec3(0.97), 0.55), shown, smoothstep(0.4, 0.6, trait.y));
    float rim = abs(trait.y - 0.5) / max(markWidth, 1e-5);
    shown = mix(shown, vec3(0.07, 0.09, 0.14), 1.0 - smoothstep(1.0 * fine, 1.0 * fine + 1.0, rim));
  }
  if (borderWidth > 0.0) {
    shown = mix(shown, vec3(0.10, 0.12, 0.17), 0.82 * (1.0 - smoothstep(borderWidth * fine - 0.5, borderWidth * fine + 0.5, border.y)));
  }
  if (planeOn > 0.5) {
    float away = abs(depth - plane);
    shown = mix(shown, vec3(1.0), 0.22 * step(away, halfGap));
    float line = away / max(planeWidth, 1e-5);
    shown = mix(shown, vec3(0.85, 0.12, 0.32), 1.0 - smoothstep(0.9 * fine, 0.9 * fine + 1.0, line));
  }
  pixel = vec4(shown, 1.0);
}`;
