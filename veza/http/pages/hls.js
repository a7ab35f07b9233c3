// Plays an HLS playlist in a media element: by the browser itself where it can, else by hls.js, fetched only then.

/** Begin; resolves to what stops it. `failed` is told when it cannot go on. */
export async function playHls(element, address, failed) {
  const { default: Hls } = await import("/app/vendor/hls.min.mjs");
  if (Hls.isSupported()) {
    const hls = new Hls({
      enableWorker: false, // a worker would need code from a blob, which our content policy does not allow
      backBufferLength: 30,
      liveSyncDurationCount: 2,
    });
    let revived = 0;
    hls.on(Hls.Events.ERROR, (_event, data) => {
      if (!data.fatal) return;
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && revived++ < 3) hls.recoverMediaError();
      else failed(data);
    });
    hls.loadSource(address);
    hls.attachMedia(element);
    return () => hls.destroy();
  }
  if (!element.canPlayType("application/vnd.apple.mpegurl")) throw new Error("This browser plays no HLS.");
  const told = () => failed(element.error);
  element.addEventListener("error", told);
  element.src = address;
  return () => {
    element.removeEventListener("error", told);
    element.removeAttribute("src");
    element.load();
  };
}
