// What JavaScript adds to pages that are complete without it. Each module does one thing and minds its own part.

import { localise, keepTimesFresh, tellZone } from "./times.js";
import { askInDialogs } from "./dialogs.js";
import { guardForms } from "./forms.js";
import { goLive } from "./live.js";
import { closeMenus } from "./menu.js";

tellZone();
localise(document);
keepTimesFresh();
askInDialogs();
guardForms();
closeMenus();
if (document.body.dataset.events) {
  document.querySelector("[data-frozen]").hidden = true;
  goLive(document.body.dataset.events);
}
