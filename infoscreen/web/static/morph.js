// Makes one tree like another with as few changes as possible, so that focus, half-typed words and open menus stay.

export function morph(old, fresh) {
  if (old.isEqualNode(fresh)) {
    return;
  }
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  morphAttributes(old, fresh);
  morphChildren(old, fresh);
}

function morphAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    // What the reader or JavaScript has put there is not the server's to take away.
    const ours = name === "data-sent" || (name === "open" && old.localName === "details") || (name === "hidden" && "held" in old.dataset) || name === "data-held";
    if (!fresh.hasAttribute(name) && !ours) {
      old.removeAttribute(name);
    }
  }
  // What there is to do now is unfolded once; after that it is the reader's to fold.
  if (fresh.dataset.unfold === "yes" && old.dataset.unfold === "no") {
    old.open = true;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) {
      old.setAttribute(name, value);
    }
  }
}

function morphChildren(old, fresh) {
  const kept = new Map();
  for (const child of old.children) {
    if (child.id) {
      kept.set(child.id, child);
    }
  }
  let here = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = child.id ? kept.get(child.id) : here && !here.id && alike(here, child) ? here : null;
    if (same) {
      if (same === here) {
        here = here.nextSibling;
      } else {
        old.insertBefore(same, here);
      }
      morph(same, child);
    } else {
      old.insertBefore(child, here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName;
}
