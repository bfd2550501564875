(function () {
  "use strict";
  document.documentElement.classList.add("js");
  var data = JSON.parse(document.getElementById("report-data").textContent);
  var slider = document.getElementById("level");
  var output = document.getElementById("level-text");
  var play = document.getElementById("play");
  var tally = document.getElementById("tally");
  var cards = Array.prototype.slice.call(document.querySelectorAll(".card"));
  var matrices = Array.prototype.slice.call(document.querySelectorAll(".matrix"));
  var timer = null;

  function word(labels, index) {
    if (index >= 0) { return labels[index]; }
    return index === -1 ? "(unreadable)" : index === -2 ? "(invalid)" : "(not measured)";
  }

  function item(name, parts) {
    var li = document.createElement("li");
    var label = document.createElement("span");
    label.className = "name";
    label.textContent = name;
    li.appendChild(label);
    var words = document.createElement("span");
    li.appendChild(words);
    parts.forEach(function (part) {
      var span = document.createElement("span");
      if (part[1]) { span.className = part[1]; }
      span.textContent = part[0];
      words.appendChild(span);
    });
    return li;
  }

  function tile(box, strip, number, count) {
    var picture = strip.cloneNode(false);
    picture.removeAttribute("width");
    picture.removeAttribute("height");
    picture.alt = "";
    picture.style.width = count * 100 + "%";
    box.style.setProperty("--shape", strip.getAttribute("width") / count / strip.getAttribute("height"));
    box.appendChild(picture);
    move(box, number, count);
  }

  function move(box, number, count) {
    box.firstChild.style.transform = "translateX(" + (-100 * number / count) + "%)";
  }

  function showCards(k) {
    var changed = data.features.map(function () { return 0; });
    var read = data.features.map(function () { return 0; });
    cards.forEach(function (card) {
      var row = data.rows[+card.dataset.row];
      var after = card.querySelector(".tile.after");
      if (after && after.firstChild) { move(after, k + 1, data.levels.length + 1); }
      var list = card.querySelector(".labels");
      list.textContent = "";
      row.forEach(function (entry, f) {
        var labels = data.features[f].labels, to = entry.after[k];
        var isRead = entry.before >= 0 && to >= 0, isChanged = isRead && to !== entry.before;
        read[f] += isRead ? 1 : 0;
        changed[f] += isChanged ? 1 : 0;
        list.appendChild(item(data.features[f].name, isChanged
          ? [[word(labels, entry.before) + " → ", ""], ["✱\u00a0" + word(labels, to), "changed"]]
          : isRead ? [[word(labels, to) + " (kept)", ""]]
          : [[word(labels, entry.before) + " → " + word(labels, to), ""]]));
      });
    });
    if (tally) {
      tally.textContent = data.features.map(function (f, n) {
        return f.name + ": " + changed[n] + " of " + read[n] + " changed";
      }).join(" · ");
    }
  }

  function showMatrices(k) {
    matrices.forEach(function (box) {
      var m = data.matrices[+box.dataset.feature];
      var table = box.querySelector("table.now");
      table.caption.textContent = data.levels[k].text;
      m.values[k].forEach(function (row, i) {
        var cells = table.tBodies[0].rows[i].cells;
        row.forEach(function (value, j) {
          var cell = cells[j + 1], share = value === null ? 0 : value / 1000;
          cell.textContent = value === null ? "–" : value === 0 ? "0" : value === 1000 ? "1"
            : Math.min(Math.max(share, 0.01), 0.99).toFixed(2).slice(1);
          cell.style.setProperty("--p", share);
          cell.classList.toggle("none", value === null);
        });
      });
    });
  }

  function show() {
    var k = +slider.value;
    output.textContent = data.levels[k].text;
    slider.setAttribute("aria-valuetext", data.levels[k].text);
    showCards(k);
    showMatrices(k);
  }

  function stop() {
    if (timer !== null) { window.clearInterval(timer); timer = null; }
    play.textContent = "▶ Play";
    play.setAttribute("aria-pressed", "false");
    if (tally) { tally.setAttribute("role", "status"); }
  }

  function start() {
    var last = +slider.max;
    if (+slider.value === last) { slider.value = 0; show(); }
    if (tally) { tally.removeAttribute("role"); }
    play.textContent = "❚❚ Pause";
    play.setAttribute("aria-pressed", "true");
    timer = window.setInterval(function () {
      slider.value = +slider.value + 1;
      show();
      if (+slider.value >= last) { stop(); }
    }, 450);
  }

  function save(button) {
    var text = button.closest("details").querySelector("pre").textContent;
    var link = document.createElement("a");
    var url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.href = url;
    link.download = button.dataset.file;
    link.click();
    window.setTimeout(function () { URL.revokeObjectURL(url); }, 1000);
  }

  cards.forEach(function (card) {
    var strip = card.querySelector(".strip img");
    if (!strip) { return; }
    var count = data.levels.length + 1;
    tile(card.querySelector(".tile.before"), strip, 0, count);
    tile(card.querySelector(".tile.after"), strip, 1, count);
  });
  document.querySelectorAll("button.save").forEach(function (button) {
    button.addEventListener("click", function () { save(button); });
  });
  slider.addEventListener("input", function () { stop(); show(); });
  play.addEventListener("click", function () { if (timer === null) { start(); } else { stop(); } });
  document.getElementById("player").hidden = data.levels.length < 2;
  show();
})();
