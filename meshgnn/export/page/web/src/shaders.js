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
uniform float steps, none, plane, halfGap, planeOn, marked, hovered, borderWidth, foldShade;
uniform vec2 range;
uniform vec3 noneColour;
uniform bool byValue;
in vec3 corner, facing, toEye, trait;
in vec2 value;
in float depth;
flat in vec3 fills, edges;
out vec4 pixel;

float nearest(vec3 three) {
  return corner.x >= corner.y && corner.x >= corner.z ? three.x : corner.y >= corner.z ? three.y : three.z;
}

void main() {
  vec3 gap = vec3(corner.x - corner.y, corner.y - corner.z, corner.z - corner.x);
  vec3 perPixel = fwidth(gap);
  float planeWidth = fwidth(depth), markWidth = fwidth(trait.y);
  vec3 base = noneColour;
  float kind = nearest(fills);
  if (byValue) {
    if (value.y > 0.5) {
      float at = clamp((value.x / value.y - range.x) / (range.y - range.x), 0.0, 1.0);
      base = texture(colours, vec2((at * (steps - 1.0) + 0.5) / steps, 0.5)).rgb;
    }
  } else if (kind < none) {
    base = texelFetch(colours, ivec2(int(kind + 0.5), 0), 0).rgb;
  }
  float own = nearest(edges);
  if (hovered >= 0.0 && abs(own - hovered) > 0.5) base = mix(base, vec3(0.93), 0.35);

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
    shown = mix(shown, vec3(0.07, 0.09, 0.14), 1.0 - smoothstep(1.0, 2.0, rim));
  }
  if (borderWidth > 0.0) {
    vec3 pixels = abs(gap) / max(perPixel, vec3(1e-6));
    float distance = 1e3;
    if (abs(edges.x - edges.y) > 0.5 && corner.z <= max(corner.x, corner.y)) distance = pixels.x;
    if (abs(edges.y - edges.z) > 0.5 && corner.x <= max(corner.y, corner.z)) distance = min(distance, pixels.y);
    if (abs(edges.z - edges.x) > 0.5 && corner.y <= max(corner.z, corner.x)) distance = min(distance, pixels.z);
    shown = mix(shown, vec3(0.10, 0.12, 0.17), 0.82 * (1.0 - smoothstep(borderWidth - 0.5, borderWidth + 0.5, distance)));
  }
  if (planeOn > 0.5) {
    float away = abs(depth - plane);
    shown = mix(shown, vec3(1.0), 0.22 * step(away, halfGap));
    float line = away / max(planeWidth, 1e-5);
    shown = mix(shown, vec3(0.85, 0.12, 0.32), 1.0 - smoothstep(0.9, 1.9, line));
  }
  pixel = vec4(shown, 1.0);
}`;
