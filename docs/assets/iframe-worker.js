// A stand-in for Worker where the site is read from files: browsers do not start workers from file: addresses.
// The script of the worker runs in a hidden frame. The theme's search looks for the name IFrameWorker.
class IFrameWorker extends EventTarget {
  constructor(address) {
    super();
    this.onmessage = null;
    this.onerror = null;
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    this.loaded = new Promise((resolve) => {
      document.body.append(this.frame);
      const page = this.frame.contentDocument;
      this.frame.contentWindow.postMessage = (data) => this.#deliver(data);
      this.frame.contentWindow.importScripts = (...addresses) => Promise.all(addresses.map((each) => load(page, each)));
      load(page, address).then(resolve);
    });
  }

  postMessage(data) {
    this.loaded.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }

  #deliver(data) {
    const event = new MessageEvent("message", { data });
    this.dispatchEvent(event);
    if (this.onmessage) this.onmessage(event);
  }
}

function load(page, address) {
  return new Promise((resolve, reject) => {
    const script = page.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = reject;
    page.body.append(script);
  });
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
