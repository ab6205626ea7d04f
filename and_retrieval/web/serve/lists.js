// Lists of units under names of their own: what is added to them, and exports of what the table shows.

import { download, get, hasToken, send } from "./api.js";
import { count, el } from "./elements.js";

const NEW = "\n"; // no list has this name
const NAME_LENGTH = 80;

const listPath = (name) => `/api/lists/${encodeURIComponent(name)}`;
export const readLists = async (run) => (await get("/api/lists", { run })).lists;
export const changeList = (run, name, order, shown = {}) => send("PATCH", listPath(name), order, { run, ...shown });

// A small form above the page; `act` is called with its fields' values, and what it throws is said in the form.
function ask(title, fields, action, act) {
  const flaw = el("p", { role: "alert" });
  const box = el("dialog", { "aria-label": title, onclose: () => box.remove() });
  box.append(el("form", { class: "asked", onsubmit: async (event) => {
    event.preventDefault();
    try {
      await act();
      box.close();
    } catch (error) {
      flaw.className = "note";
      flaw.replaceChildren(error.message);
    }
  } }, el("h2", {}, title), ...fields, flaw,
  el("div", { class: "buttons" }, el("button", { type: "submit" }, action), el("button", { type: "button", onclick: () => box.close() }, "Cancel"))));
  document.body.append(box);
  box.showModal();
}

const nameField = (value = "") => el("input", { type: "text", maxlength: NAME_LENGTH, required: true, value, autocomplete: "off" });
const field = (label, control) => el("label", { class: "field" }, el("span", {}, label), control);

// Asks for a list, an old or a new one, and adds units to it: those named, or all that `shown` lets through; `done` is
// called with what is to be said, and the list.
export async function addToList(run, title, order, shown, done) {
  const lists = await readLists(run);
  const name = nameField();
  const choice = el("select", {}, lists.map((one) => el("option", { value: one.name }, `${one.name} (${one.units})`)), el("option", { value: NEW }, "a new list"));
  const named = field("Name of the new list", name);
  const choose = () => {
    named.hidden = choice.value !== NEW;
    name.disabled = named.hidden;
  };
  choice.addEventListener("change", choose);
  choose();
  ask(title, [lists.length ? field("List", choice) : null, named].filter(Boolean), "Add", async () => {
    let list = choice.value;
    if (list === NEW) ({ name: list } = await send("POST", "/api/lists", { name: name.value }, { run }));
    choice.append(el("option", { value: list }, list)); // if adding fails, the list is there all the same
    choice.value = list;
    choose();
    const changed = await changeList(run, list, order, shown);
    done(`“${changed.name}” has ${count(changed.units, "unit")} now`, changed.name);
  });
}

function rename(run, list, done) {
  const name = nameField(list);
  ask(`Rename “${list}”`, [field("Name", name)], "Rename", async () => {
    const changed = await changeList(run, list, { name: name.value });
    done(`renamed to “${changed.name}”`, changed.name);
  });
}

function remove(run, list, done) {
  ask(`Delete the list “${list}”?`, [el("p", {}, "Its units, their stars and notes stay.")], "Delete", async () => {
    await send("DELETE", listPath(list), undefined, { run });
    done(`“${list}” is deleted`, "");
  });
}

// Buttons under the table's filters. `shown` are the parameters of what the table shows, `chosen` the units that are
// ticked; `done` is called with what is to be said, and with the list to show now where that is another one.
export function listBar({ run, shown, total, chosen, done, failed }) {
  const tell = (act) => async () => {
    try { await act(); } catch (error) { failed(error); }
  };
  const button = (text, act) => el("button", { type: "button", disabled: !hasToken(), onclick: tell(act) }, text);
  const units = [...chosen];
  const some = units.length ? `${units.length.toLocaleString("en")} chosen` : count(total, "unit");
  const file = (shown.list || "units").replace(/[^\p{L}\p{N}]+/gu, "-");
  const save = (form) => button(`Export ${form.toUpperCase()}`, () => download("/api/export", `${file}.${form}`, { ...shown, format: form }));
  const order = units.length ? { add: units } : { add_shown: true };
  return [
    button(units.length ? "Add chosen to a list" : "Add all to a list", () => addToList(run, `Add ${some} to a list`, order, units.length ? {} : shown, (said) => done(said))),
    shown.list && units.length ? button("Take chosen out", async () => {
      await changeList(run, shown.list, { remove: units });
      done(`${count(units.length, "unit")} taken out`);
    }) : null,
    save("csv"), save("json"),
    shown.list ? button("Rename list", () => rename(run, shown.list, done)) : null,
    shown.list ? button("Delete list", () => remove(run, shown.list, done)) : null,
  ].filter(Boolean);
}

// The lists of a run as boxes that are ticked for those that a unit is in.
export async function listBoxes(run, unit, changed) {
  const lists = await readLists(run);
  const boxes = lists.map(({ name }) => {
    const box = el("input", { type: "checkbox", checked: unit.lists.includes(name), disabled: !hasToken(), onchange: async () => {
      await changeList(run, name, box.checked ? { add: [unit.name] } : { remove: [unit.name] });
      unit.lists = box.checked ? [...unit.lists, name] : unit.lists.filter((one) => one !== name);
      changed();
    } });
    return el("label", { class: "check" }, box, name);
  });
  const another = el("button", { type: "button", disabled: !hasToken(), onclick: () => addToList(run, `Add ${unit.name} to a list`, { add: [unit.name] }, {}, (_, name) => {
    unit.lists = [...new Set([...unit.lists, name])];
    changed();
  }) }, lists.length ? "Another list" : "Add to a list");
  return [...boxes, another];
}
