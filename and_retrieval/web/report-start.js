// ---------- start ----------

function listen() {
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("query").addEventListener("input", () => { state.wordsOnly = false; refresh(); });
  for (const id of ["layer", "order", "reliable", "several"]) byId(id).addEventListener("change", refresh);
  byId("swap").addEventListener("click", () => { state.wordsOnly = !state.wordsOnly; refresh(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("query").focus();
    } else if (event.key === "Escape" && event.target === byId("query") && byId("query").value) {
      byId("query").value = "";
      refresh();
    }
  });
  window.addEventListener("hashchange", goToAnchor);
}

drawHeader();
drawLayers();
data.sections.forEach(drawSection);
byId("concepts").append(...data.hits.map(([concept]) => el("option", { value: concept })));
byId("reliable").disabled = !tested;
byId("several").disabled = !units.some((unit) => unit.meanings.length);
if (!tested) byId("reliable").parentElement.title = "No label was tested: too few clips were held out";
listen();
refresh();
goToAnchor();
setTimeout(() => { index ??= buildIndex(); }, 50);
