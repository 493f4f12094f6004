// The evidence page: joins the sentences of the draft with the planes of the CT.
// Texts of the draft are never put into markup here; the page holds them, escaped.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const state = { sentence: -1, window: 0, masks: true, anatomy: false, hidden: new Set(), map: "", chosen: [] };
  // Where the planes lie on the canvas: left, top, width, height; 3D has the corner that is left.
  const LAYOUT = [
    { sliceType: 0, position: [0, 0, 0.64, 1] },
    { sliceType: 1, position: [0.64, 0, 0.36, 0.333] },
    { sliceType: 2, position: [0.64, 0.333, 0.36, 0.334] },
  ];
  const CROSSHAIR = 0.25; // percent of the picture
  // Cool, as the masks of lesions are warm; the weaker, the clearer.
  const MAP_COLOURS = { R: [0, 0, 160], G: [90, 190, 255], B: [200, 190, 190], A: [0, 80, 200], I: [0, 128, 255] };
  const SOLID_STEP = 2; // the 3D view takes every second voxel
  const BONE = [180, 900]; // Hounsfield units that 3D shows, from clear to opaque
  let planes = null, solid = null, ct = null, maskVolume = null, solidMask = null, mapVolume = null;
  let turn = 0; // counts the maps that were asked for
  const buffers = {};

  async function unpacked(id) {
    if (!buffers[id]) {
      const text = atob(byId(id).textContent.trim());
      const bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      buffers[id] = await new Response(stream).arrayBuffer();
    }
    return buffers[id];
  }

  function thinned(buffer, step) {
    // A NIfTI with every step-th voxel along each axis.
    const view = new DataView(buffer);
    const [nx, ny, nz] = [42, 44, 46].map((at) => view.getInt16(at, true));
    const bytes = view.getInt16(72, true) / 8, start = view.getFloat32(108, true);
    const [mx, my, mz] = [nx, ny, nz].map((n) => Math.ceil(n / step));
    const result = new Uint8Array(start + mx * my * mz * bytes);
    result.set(new Uint8Array(buffer, 0, start));
    const Kind = bytes === 2 ? Int16Array : Uint8Array;
    const from = new Kind(buffer.slice(start)), to = new Kind(mx * my * mz);
    let at = 0;
    for (let z = 0; z < nz; z += step) {
      for (let y = 0; y < ny; y += step) {
        const row = (z * ny + y) * nx;
        for (let x = 0; x < nx; x += step) { to[at] = from[row + x]; at += 1; }
      }
    }
    result.set(new Uint8Array(to.buffer), start);
    const header = new DataView(result.buffer);
    [mx, my, mz].forEach((n, axis) => {
      header.setInt16(42 + 2 * axis, n, true);
      header.setFloat32(80 + 4 * axis, header.getFloat32(80 + 4 * axis, true) * step, true);
      for (let row = 0; row < 3; row += 1) {
        const place = 280 + 16 * row + 4 * axis;
        header.setFloat32(place, header.getFloat32(place, true) * step, true);
      }
    });
    return result.buffer;
  }

  const image = (buffer, name) => niivue.NVImage.new(buffer, `${name}.nii`);

  function rgb(colour) {
    const number = parseInt(colour.slice(1), 16);
    return [number >> 16, (number >> 8) & 255, number & 255];
  }

  // Which classes are drawn, and how strongly: 0 to 255.
  function strengthOf(cls, isSolid) {
    if (!state.masks || state.hidden.has(cls.id)) return 0;
    if (state.chosen.includes(cls.id)) return 255;
    if (cls.lesion) return state.chosen.length ? 60 : 190;
    return state.anatomy ? (isSolid ? 30 : 110) : 0;
  }

  function labelTable(isSolid) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0] };
    for (const cls of data.classes) {
      const [r, g, b] = rgb(cls.colour);
      table.R.push(r); table.G.push(g); table.B.push(b);
      table.A.push(strengthOf(cls, isSolid)); table.I.push(cls.id);
    }
    return table;
  }

  function paintMasks() {
    if (maskVolume) {
      maskVolume.setColormapLabel(labelTable(false));
      maskVolume.opacity = opacity();
      planes.updateGLVolume();
    }
    if (solidMask) {
      solidMask.setColormapLabel(labelTable(true));
      solid.updateGLVolume();
    }
    markMasks();
  }

  const opacity = () => Number(byId("opacity").value) / 100;

  function markMasks() {
    for (const [id, pressed] of [["masks", state.masks], ["anatomy", state.anatomy]]) {
      if (byId(id)) byId(id).setAttribute("aria-pressed", String(pressed));
    }
    for (const chip of byId("legend").children) {
      const id = Number(chip.dataset.class);
      const cls = data.classes.find((one) => one.id === id);
      chip.hidden = !(cls.lesion || state.anatomy || state.chosen.includes(id));
      chip.setAttribute("aria-pressed", String(strengthOf(cls, false) > 0));
      chip.classList.toggle("chosen", state.chosen.includes(id));
    }
  }

  function setWindow(number) {
    markWindow(number);
    if (!ct) return;
    setWindowOf(ct, number);
    planes.updateGLVolume();
    planes.createOnLocationChange();
  }

  function setWindowOf(volume, number) {
    const { level, width } = data.windows[number];
    volume.cal_min = level - width / 2;
    volume.cal_max = level + width / 2;
  }

  function markWindow(number) {
    state.window = number;
    document.querySelectorAll("#tools .window").forEach((button, at) => {
      button.setAttribute("aria-pressed", String(at === number));
    });
  }

  async function setMap(kind) {
    turn += 1;
    const own = turn;
    state.map = kind;
    const select = byId("map");
    if (select) select.value = kind;
    if (!planes) return;
    const claims = state.sentence < 0 ? [] : data.sentences[state.sentence];
    const claim = claims.find((one) => one.maps[kind]);
    if (mapVolume) { planes.removeVolume(mapVolume); mapVolume = null; }
    if (kind && claim) {
      const id = claim.maps[kind];
      const made = await image(await unpacked(id), id);
      made.colormap = "evidence";
      made.cal_min = 90; // of 255: what is weaker than a third of the peak is not drawn
      made.cal_max = 255;
      made.opacity = 0.7;
      if (own !== turn) return; // another was chosen meanwhile
      planes.addVolume(made);
      mapVolume = made;
    }
    planes.updateGLVolume();
    document.body.dataset.map = mapVolume ? mapVolume.name : "";
  }

  function lookAt(point) {
    for (const view of [planes, solid]) {
      if (!view) continue;
      view.scene.crosshairPos = view.mm2frac([...point, 1]);
      view.drawScene();
    }
    planes.createOnLocationChange();
  }

  async function choose(number, scroll = true) {
    const buttons = [...document.querySelectorAll(".sentence")];
    const button = buttons.find((one) => Number(one.dataset.sentence) === number);
    if (!button) return;
    const wasOpen = state.sentence === number;
    for (const one of buttons) {
      const isOpen = one === button && !wasOpen;
      one.setAttribute("aria-expanded", String(isOpen));
      byId(one.getAttribute("aria-controls")).hidden = !isOpen;
    }
    state.sentence = wasOpen ? -1 : number;
    const claims = wasOpen ? [] : data.sentences[number];
    state.chosen = claims.filter((claim) => claim.present).flatMap((claim) => claim.classes);
    if (scroll) button.scrollIntoView({ block: "nearest" });
    button.focus({ preventScroll: true });
    if (!planes) return;
    paintMasks();
    await setMap(state.map);
    const placed = claims.find((claim) => claim.focus);
    if (placed) lookAt(placed.focus);
  }

  function step(by) {
    const order = [...document.querySelectorAll(".sentence")].map((one) => Number(one.dataset.sentence));
    if (!order.length) return;
    const at = order.indexOf(state.sentence);
    const next = at < 0 ? (by > 0 ? 0 : order.length - 1) : at + by;
    if (next >= 0 && next < order.length) choose(order[next]);
  }

  function slice(by) {
    if (planes) planes.moveCrosshairInVox(0, 0, by);
  }

  function nextMap() {
    const select = byId("map");
    if (!select) return;
    const kinds = [...select.options].map((option) => option.value);
    setMap(kinds[(kinds.indexOf(state.map) + 1) % kinds.length]);
  }

  function help() {
    const isHidden = !byId("help").hidden;
    byId("help").hidden = isHidden;
    byId("help-button").setAttribute("aria-expanded", String(!isHidden));
  }

  function crosshair() {
    if (!planes) return;
    const width = planes.opts.crosshairWidth ? 0 : CROSSHAIR;
    planes.setCrosshairWidth(width);
  }

  const KEYS = {
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    ArrowRight: () => slice(1),
    ArrowLeft: () => slice(-1),
    1: () => setWindow(0),
    2: () => setWindow(1),
    3: () => setWindow(2),
    m: () => { state.masks = !state.masks; paintMasks(); },
    a: () => { state.anatomy = !state.anatomy; paintMasks(); },
    e: nextMap,
    x: crosshair,
    "?": help,
  };

  function press(event) {
    const isField = ["INPUT", "SELECT"].includes(event.target.tagName);
    if (isField || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    KEYS[event.key]();
  }

  function tell(location) {
    // In LPS words, as radiologists count; slices from the feet.
    const [right, front, up] = location.mm;
    const hu = location.values.length ? Math.round(location.values[0].value) : NaN;
    const mask = location.values.find((one) => one.name === "masks.nii");
    const cls = mask && data.classes.find((one) => one.id === Math.round(mask.value));
    const line = byId("where");
    line.replaceChildren();
    const strong = document.createElement("b");
    strong.textContent = `${hu} HU`;
    const at = [["R", "L", right], ["A", "P", front], ["S", "I", up]]
      .map(([plus, minus, mm]) => `${mm >= 0 ? plus : minus} ${Math.abs(mm).toFixed(0)}`);
    const { level, width } = data.windows[state.window];
    const shrunk = Math.max(...data.shrunk);
    line.append(strong, ` \u00b7 slice ${Math.round(location.vox[2]) + 1} of ${ct.dimsRAS[3]}`
      + ` \u00b7 ${at.join("  ")} mm \u00b7 L ${level} W ${width}`
      + `${cls ? ` \u00b7 mask: ${cls.name}` : ""}`
      + `${shrunk > 1 ? ` \u00b7 shown at 1 : ${shrunk.toFixed(1)}` : ""}`);
    document.body.dataset.at = `${right.toFixed(1)} ${front.toFixed(1)} ${up.toFixed(1)}`;
  }

  function drawLegend() {
    const ordered = [...data.classes].sort((a, b) => Number(b.lesion) - Number(a.lesion) || a.id - b.id);
    for (const cls of ordered) {
      const chip = document.createElement("button"), dot = document.createElement("i");
      chip.type = "button";
      chip.dataset.class = String(cls.id);
      dot.style.background = cls.colour;
      chip.append(dot, `${cls.name} ${cls.ml < 10 ? cls.ml.toFixed(1) : cls.ml.toFixed(0)} ml`);
      chip.addEventListener("click", () => {
        if (!state.hidden.delete(cls.id)) state.hidden.add(cls.id);
        paintMasks();
      });
      byId("legend").append(chip);
    }
  }

  async function openPlanes() {
    planes = new niivue.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.35, 0.75, 1, 0.9],
      crosshairWidth: CROSSHAIR,
      crosshairWidthUnit: "percent",
      crosshairGap: 2.5,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      dragAndDropEnabled: false,
      dragMode: niivue.DRAG_MODE.windowing,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      isNearestInterpolation: false,
      fontColor: [0.94, 0.63, 0.19, 1],
      fontMinPx: 17,
      loadingText: "",
      logLevel: "error",
      isColorbar: false,
      showAllOrientationMarkers: true,
    });
    planes.onLocationChange = tell;
    planes.addColormap("evidence", MAP_COLOURS);
    await planes.attachToCanvas(byId("planes"), false);
    planes.setCustomLayout(LAYOUT);
    ct = await image(await unpacked("volume-ct"), "ct");
    setWindowOf(ct, state.window); // before it is added: each change afterwards costs a redraw
    planes.addVolume(ct);
    planes.setSliceType(planes.sliceTypeMultiplanar);
    planes.createOnLocationChange();
  }

  // Lets the browser draw what there is.
  const shown = () => new Promise((resolve) => { setTimeout(resolve, 30); });

  async function addMasks() {
    if (!byId("volume-masks")) return;
    maskVolume = await image(await unpacked("volume-masks"), "masks");
    maskVolume.setColormapLabel(labelTable(false));
    maskVolume.opacity = opacity();
    planes.addVolume(maskVolume);
  }

  async function openSolid() {
    solid = new niivue.Niivue({
      backColor: [0, 0, 0, 1],
      dragAndDropEnabled: false,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      crosshairWidth: 0,
      isOrientationTextVisible: true,
      fontColor: [0.94, 0.63, 0.19, 1],
      loadingText: "",
      logLevel: "error",
    });
    await solid.attachToCanvas(byId("solid"), false);
    const bones = await image(thinned(await unpacked("volume-ct"), SOLID_STEP), "bones");
    [bones.cal_min, bones.cal_max] = BONE;
    solid.addVolume(bones);
    if (maskVolume) {
      solidMask = await image(thinned(await unpacked("volume-masks"), SOLID_STEP), "solid-masks");
      solidMask.setColormapLabel(labelTable(true));
      solid.addVolume(solidMask);
    }
    solid.setSliceType(solid.sliceTypeRender);
    solid.setRenderAzimuthElevation(170, 12);
    solid.setScale(1.35);
  }

  function connect() {
    if (byId("map")) state.map = byId("map").value;
    document.querySelectorAll(".sentence").forEach((button) => {
      button.addEventListener("click", () => choose(Number(button.dataset.sentence), false));
    });
    document.querySelectorAll("#tools .window").forEach((button, at) => {
      button.addEventListener("click", () => setWindow(at));
    });
    for (const id of ["masks", "anatomy"]) {
      if (byId(id)) byId(id).addEventListener("click", KEYS[id[0]]);
    }
    if (byId("opacity")) byId("opacity").addEventListener("input", paintMasks);
    if (byId("map")) byId("map").addEventListener("change", (event) => setMap(event.target.value));
    byId("help-button").addEventListener("click", help);
    document.addEventListener("keydown", press, true);
    drawLegend();
    markMasks();
    markWindow(state.window);
  }

  async function open() {
    connect();
    try {
      await openPlanes();
      byId("opening").hidden = true;
      document.body.dataset.ms = String(Math.round(performance.now()));
      await shown(); // the CT is there to be read while masks and 3D are on their way
      await addMasks();
      document.body.dataset.ready = "planes";
      await shown();
      await openSolid();
      document.body.dataset.ready = "all";
    } catch (error) {
      const isLate = Boolean(document.body.dataset.ms); // the planes are there
      const missing = isLate ? "Masks or 3D" : "The planes";
      byId("opening").textContent = `${missing} cannot be shown: this browser has no WebGL 2, or too little memory. `
        + "The draft and its numbers are complete.";
      byId("opening").classList.toggle("late", isLate);
      byId("opening").hidden = false;
      document.body.dataset.ready = "none";
      document.body.dataset.error = String(error);
    }
  }

  open();
})();
