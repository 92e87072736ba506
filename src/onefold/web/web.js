// What the browser does by itself: copying, shortcuts, the banner of a lost connection.
(() => {
  const mac = /Mac|iPhone|iPad/.test(navigator.platform);
  document.addEventListener("click", (event) => {
    const made = event.target.closest("[data-copy]");
    if (!made) return;
    event.stopPropagation();
    const said = made.querySelector("[data-said]") || made;
    navigator.clipboard?.writeText(made.dataset.copy).then(() => {
      const before = said.textContent;
      if (before === "Copied" || said.querySelector("*")) return;
      said.textContent = "Copied";
      setTimeout(() => (said.textContent = before), 900);
    });
  });
  const pages = { o: "/", s: "/sources", m: "/models", d: "/destinations", r: "/runs", p: "/profiles", b: "/debugger" };
  let led = 0;
  const typing = (target) => target.closest?.("input, textarea, select, [contenteditable=true], .cm-editor");
  const rows = () => [...document.querySelectorAll(".of-main tr.of-go")].filter((row) => row.offsetParent);
  const move = (step) => {
    const all = rows();
    const at = all.findIndex((row) => row.classList.contains("of-here"));
    const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
    all.forEach((row) => row.classList.remove("of-here"));
    if (!next) return;
    next.classList.add("of-here");
    (next.querySelector("a, button") || next).focus?.();
    next.scrollIntoView({ block: "nearest" });
  };
  // Arrow keys move within menus, within what the jump box found, and within rows that open.
  const groups = { ".q-menu": "[role=menuitem]:not([disabled])", ".of-jumpbox": "input, li a", tbody: "tr[tabindex]" };
  const arrow = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.target.closest("select, textarea, .cm-editor, .of-pop")) return;
    for (const [group, items] of Object.entries(groups)) {
      const opened = group === ".q-menu" && event.target.matches("body, [aria-haspopup=menu]");
      const within = opened ? document.querySelector(group) : event.target.closest(group);
      const all = [...(within?.querySelectorAll(items) || [])];
      if (!all.length) continue;
      event.preventDefault();
      const at = all.indexOf(document.activeElement);
      const next = at < 0 && step < 0 ? all.length - 1 : Math.max(0, Math.min(all.length - 1, at + step));
      return all[next].focus();
    }
  };
  document.addEventListener("keydown", (event) => {
    arrow(event);
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "k") {
      event.preventDefault();
      return document.getElementById("of-jump")?.click();
    }
    if ((event.ctrlKey || event.metaKey) && (key === "s" || key === "enter")) {
      const made = document.querySelector(key === "s" ? "[data-save]" : "[data-preview]");
      if (made) {
        event.preventDefault();
        if (!made.disabled) setTimeout(() => made.click(), typing(event.target) ? 300 : 0);
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector(".q-dialog")) return;
    if (Date.now() - led < 1200 && pages[key]) {
      led = 0;
      event.preventDefault();
      return emitEvent("sub_pages_navigate", pages[key]);
    }
    if (key === "g") led = Date.now();
    else if (key === "?") emitEvent("sub_pages_navigate", "/help");
    else if (key === "/") {
      const made = document.querySelector(".of-main .of-search input");
      if (made) { event.preventDefault(); made.focus(); }
    } else if (key === "j" || key === "k") move(key === "j" ? 1 : -1);
    else if (key === "e") document.querySelector("[data-edit]")?.click();
    else if (key === " " && document.querySelector("[data-pause]") && !event.target.closest("button, a")) {
      event.preventDefault();
      document.querySelector("[data-pause]").click();
    }
  });
  // Tables and columns for the completion of an SQL editor: {table: [column]}.
  window.ofComplete = async (id, schema) => {
    const CM = await import("nicegui-codemirror");
    const made = getElement(id);
    await made?.editorPromise;
    if (!made?.editor) return;
    const tables = Object.keys(schema).map((label) => ({ label, type: "class", detail: "table" }));
    const columns = [...new Set(Object.values(schema).flat())].map((label) => ({ label, type: "property" }));
    const autocomplete = (context) => {
      const word = context.matchBefore(/[\w.]+/);
      if (!word && !context.explicit) return null;
      const text = word ? word.text : "";
      const dot = text.lastIndexOf(".");
      const from = word ? word.from + dot + 1 : context.pos;
      const own = schema[text.slice(0, Math.max(dot, 0))];
      const options = own ? own.map((label) => ({ label, type: "property" })) : dot < 0 ? [...tables, ...columns] : columns;
      return { from, options, validFor: /^\w*$/ };
    };
    const data = CM.EditorState.languageData.of(() => [{ autocomplete }]);
    made.editor.dispatch({ effects: CM.StateEffect.appendConfig.of(data) });
  };
  const ready = () => {
    if (mac) document.querySelectorAll(".of-mod").forEach((made) => (made.textContent = made.textContent.replace("Ctrl ", "⌘")));
    const popup = document.getElementById("popup");
    if (!popup) return;
    popup.setAttribute("role", "status");
    popup.classList.add("of-i-lost");
    new MutationObserver(() => {
      if (popup.getAttribute("aria-hidden") === "false")
        popup.dataset.said = `Reconnecting. Numbers are from ${new Date().toLocaleTimeString("en-GB")}.`;
    }).observe(popup, { attributes: true, attributeFilter: ["aria-hidden"] });
  };
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", () => setTimeout(ready, 0)) : ready();
})();
