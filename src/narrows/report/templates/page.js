(() => {
  "use strict";
  document.documentElement.classList.add("js");

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const show = (event) => {
    const target = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.getAttribute("data-tip");
    const box = target.getBoundingClientRect();
    const left = Math.min(window.innerWidth - tip.offsetWidth - 8, box.left + box.width / 2 - tip.offsetWidth / 2);
    const above = box.top - tip.offsetHeight - 7;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above < 4 ? box.bottom + 7 : above}px`;
  };
  const hide = () => { tip.hidden = true; };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("focusout", hide);
  window.addEventListener("scroll", hide, { passive: true });

  const play = (slider, button, count, draw) => {
    let timer = 0;
    const stop = () => { window.clearInterval(timer); timer = 0; button.textContent = "Play"; };
    slider.addEventListener("input", () => { stop(); draw(); });
    button.addEventListener("click", () => {
      if (timer) { stop(); return; }
      if (Number(slider.value) >= count - 1) slider.value = 0;
      button.textContent = "Pause";
      draw();
      timer = window.setInterval(() => {
        slider.value = Number(slider.value) + 1;
        draw();
        if (Number(slider.value) >= count - 1) stop();
      }, 6000 / count);
    });
    window.addEventListener("beforeprint", () => { stop(); slider.value = count - 1; draw(); });
    draw();
  };

  const moves = document.getElementById("plane-data");
  if (moves) {
    const { steps, tracks } = JSON.parse(moves.textContent);
    const slider = document.getElementById("plane-step");
    const output = document.getElementById("plane-now");
    const marks = [...document.querySelectorAll("#plane [data-mark]")];
    play(slider, document.getElementById("plane-play"), steps.length, () => {
      const at = Number(slider.value);
      for (const mark of marks) {
        const place = tracks[Number(mark.dataset.mark)][at];
        mark.style.display = place ? "" : "none";
        if (place) mark.setAttribute("transform", `translate(${place[0]} ${place[1]})`);
      }
      output.textContent = `step ${steps[at].toLocaleString("en-US")}`;
      slider.setAttribute("aria-valuetext", output.textContent);
    });
  }

  const source = document.getElementById("information-data");
  if (!source) return;
  const info = JSON.parse(source.textContent);
  const slider = document.getElementById("information-step");
  const output = document.getElementById("information-now");
  const button = document.getElementById("information-play");
  const marks = document.querySelectorAll("#information svg .now");
  const bars = [...document.querySelectorAll("#information [data-kind]")];
  const write = (value) => {
    if (value === 0) return "0\u00a0nats";
    const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
    return `${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}\u00a0nats`;
  };
  const draw = () => {
    const at = Number(slider.value);
    const step = info.steps[at];
    for (const bar of bars) {
      const value = info[bar.dataset.kind][Number(bar.dataset.row)][at];
      bar.style.width = `${Math.min(100, Math.max(0, 100 * value / info.peaks[bar.dataset.kind]))}%`;
      document.getElementById(`nats-${bar.dataset.kind}-${bar.dataset.row}`).textContent = write(value);
    }
    const x = info.left + (step - info.low) / (info.high - info.low) * (info.right - info.left);
    for (const mark of marks) {
      mark.setAttribute("x1", x);
      mark.setAttribute("x2", x);
    }
    output.textContent = `step ${step.toLocaleString("en-US")}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  play(slider, button, info.steps.length, draw);
})();
