// What this browser can draw with.

function probe(ask) {
  const gl = document.createElement("canvas").getContext("webgl2");
  const answer = gl ? ask(gl) : null;
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return answer;
}

export const hasWebGL = () => Boolean(window.WebGL2RenderingContext && probe(() => true));

// Without a graphics card every sample counts.
export function drawnBySoftware() {
  const name = probe((gl) => {
    const about = gl.getExtension("WEBGL_debug_renderer_info");
    return about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : "";
  });
  return /swiftshader|llvmpipe|software/i.test(name ?? "");
}
