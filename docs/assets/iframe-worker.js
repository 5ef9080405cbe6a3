/* Search in a site that is opened from the disk: browsers start no worker from a file, so a hidden frame takes its place. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const waiting = []; // messages that come before the script has been loaded
      this.postMessage = (data) => waiting.push(data);
      const start = () => {
        const frame = document.createElement("iframe");
        frame.hidden = true;
        document.body.append(frame);
        const inner = frame.contentWindow;
        const send = (data) => inner.dispatchEvent(new inner.MessageEvent("message", { data }));
        inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        const script = inner.document.createElement("script");
        script.src = new URL(url, location.href);
        script.onload = () => {
          this.postMessage = send;
          waiting.forEach(send);
        };
        inner.document.body.append(script);
      };
      document.body ? start() : addEventListener("DOMContentLoaded", start);
    }
  };
}
