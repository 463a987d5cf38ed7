// Questions before an act: the page that asks is fetched and shown in a dialog instead of in place of this page.

export function askInDialogs() {
  const dialog = document.querySelector("[data-dialog]");
  if (!dialog?.showModal) {
    return;
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-confirm]");
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (link && plain) {
      event.preventDefault();
      ask(dialog, link);
    }
  });
  dialog.addEventListener("click", (event) => {
    // The backdrop is part of the dialog; a click on it falls outside of its content.
    if (event.target === dialog || event.target.closest("[data-cancel]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("close", () => dialog.replaceChildren());
}

async function ask(dialog, link) {
  const address = link.href;
  dialog.opener = link;
  const question = await fetchQuestion(address);
  if (!question) {
    // Somebody signed out, the client is gone, or the network is: the page itself can say so.
    location.assign(address);
    return;
  }
  dialog.replaceChildren(document.adoptNode(question));
  dialog.showModal();
  dialog.querySelector("[data-cancel]")?.focus();
}

async function fetchQuestion(address) {
  try {
    const response = await fetch(address);
    if (!response.ok || response.redirected) {
      return null;
    }
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    return page.querySelector("[data-confirm-body]");
  } catch {
    return null;
  }
}
