"use strict";
// Tables that sort and filter, and predictions computed in the page. Text from the data enters
// the document as text only.
(() => {
  const make = (name, text, attributes) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return element;
  };

  // -- tables --------------------------------------------------------------------------------

  const numberOf = (cell) => {
    const value = cell.dataset.value;
    return value === undefined || value === "" ? null : Number(value);
  };

  const compare = (a, b) => {
    const [x, y] = [numberOf(a), numberOf(b)];
    if (x !== null && y !== null) return x - y;
    if (x !== null || y !== null) return x !== null ? -1 : 1;
    return a.textContent.localeCompare(b.textContent);
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = make("button", header.textContent, { type: "button", class: "sort" });
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const falling = header.getAttribute("aria-sort") === "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column]));
        body.append(...(falling ? rows.reverse() : rows));
      });
    });
  };

  const filterable = (table, input, count) => {
    const rows = [...table.tBodies[0].rows];
    const apply = () => {
      const wanted = input.value.toLowerCase();
      let shown = 0;
      rows.forEach((row) => {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      });
      count.textContent = `${shown} of ${rows.length} rows`;
    };
    input.addEventListener("input", apply);
    apply();
  };

  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll("[data-filters]").forEach((input) => {
    const table = document.getElementById(input.dataset.filters);
    filterable(table, input, document.getElementById(`${table.id}-count`));
  });

  // -- numbers -------------------------------------------------------------------------------

  const unpack = (packed) => {
    const text = atob(packed.numbers);
    const bytes = Uint8Array.from(text, (one) => one.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const numbers = new Float64Array(bytes.length / 8);
    for (let i = 0; i < numbers.length; i += 1) numbers[i] = view.getFloat64(8 * i, true);
    return { shape: packed.shape, numbers };
  };

  const unpacked = (form) =>
    Object.fromEntries(
      Object.entries(form).map(([key, value]) => [key, value && value.numbers ? unpack(value) : value])
    );

  // Lanczos's approximation (g = 7, nine terms), good to 1e-15 where it is used.
  const LANCZOS = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
    1.5056327351493116e-7,
  ];
  const logGamma = (x) => {
    if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
    const y = x - 1;
    const sum = LANCZOS.reduce((total, c, i) => total + (i ? c / (y + i) : c), 0);
    const t = y + 7.5;
    return 0.5 * Math.log(2 * Math.PI) + (y + 0.5) * Math.log(t) - t + Math.log(sum);
  };
  // log gamma(a + b) - log gamma(a); of a large a by Stirling's series, whose terms do not cancel.
  const logGammaGap = (a, b) => {
    if (a < 100) return logGamma(a + b) - logGamma(a);
    const tail = (x) => 1 / (12 * x) - 1 / (360 * x ** 3) + 1 / (1260 * x ** 5);
    return (a - 0.5) * Math.log1p(b / a) + b * Math.log(a + b) - b + tail(a + b) - tail(a);
  };

  // Complement of the error function: a series near zero, else a continued fraction.
  const erfc = (x) => {
    if (x < 0) return 2 - erfc(-x);
    if (x < 2) {
      let [term, sum] = [x, x];
      for (let n = 1; n < 100; n += 1) {
        term *= (-x * x) / n;
        sum += term / (2 * n + 1);
      }
      return 1 - (2 / Math.sqrt(Math.PI)) * sum;
    }
    let fraction = 0;
    for (let n = 60; n > 0; n -= 1) fraction = n / 2 / (x + fraction);
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
  };

  const logistic = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  const softmax = (scores) => {
    const largest = Math.max(...scores);
    const shares = scores.map((score) => Math.exp(score - largest));
    const total = shares.reduce((a, b) => a + b, 0);
    return shares.map((share) => share / total);
  };

  // The mean, or the levels' probabilities, from predictors p and the number of trials.
  const inverseLink = {
    identity: (p) => [p[0]],
    log: (p) => [Math.exp(p[0])],
    logit: (p, trials) => [trials * logistic(p[0])],
    probit: (p, trials) => [trials * 0.5 * erfc(-p[0] / Math.SQRT2)],
    zero_inflated: (p) => [Math.exp(p[0]) * logistic(-p[1])],
    multinomial: (p) => softmax([0, ...p]),
    softmax,
    cumulative: (p) => {
      let threshold = 0;
      const below = [logistic(-p[0])];
      p.slice(1).forEach((gap) => {
        threshold += Math.exp(gap);
        below.push(logistic(threshold - p[0]));
      });
      below.push(1);
      return below.map((share, i) => share - (i ? below[i - 1] : 0));
    },
  };

  // -- formulas ------------------------------------------------------------------------------

  const operations = {
    I: (x) => x, negative: (x) => -x, abs: Math.abs, cos: Math.cos, exp: Math.exp,
    expm1: Math.expm1, log: Math.log, log10: Math.log10, log1p: Math.log1p, log2: Math.log2,
    log_factorial: (x) => logGamma(Math.max(x, 0) + 1), sin: Math.sin, sqrt: Math.sqrt, tan: Math.tan,
    "+": (x, y) => x + y, "-": (x, y) => x - y, "*": (x, y) => x * y, "/": (x, y) => x / y,
    "**": (x, y) => x ** y,
  };

  const evaluate = (tree, values) => {
    const [head, ...rest] = tree;
    if (head === "number") return rest[0];
    if (head === "column") return values.get(rest[0]);
    if (head === "level") return values.get(rest[0]) === rest[1] ? 1 : 0;
    return operations[head](...rest.map((own) => evaluate(own, values)));
  };

  // -- the model -----------------------------------------------------------------------------

  const sumOf = (numbers) => numbers.reduce((total, value) => total + value, 0);

  const logSumExp = (values) => {
    const largest = Math.max(...values);
    return largest + Math.log(sumOf(values.map((value) => Math.exp(value - largest))));
  };

  const logSigmoid = (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));

  // Means of the gates' predictors under draw d, and the rows of a root of their covariance.
  const gatePredictors = (form, row, d) => {
    const [, gates, width] = form.values.shape;
    const roots = form.spread.shape[2];
    const along = (numbers, start) =>
      sumOf(form.columns.map((column, j) => numbers[start * width + j] * row[column]));
    return Array.from({ length: gates }, (_, gate) => {
      const place = d * gates + gate;
      return {
        mean: along(form.values.numbers, place),
        deviations: Array.from({ length: roots }, (__, m) =>
          along(form.spread.numbers, place * roots + m)
        ),
      };
    });
  };

  // Expected log weights; see `expected_softmax` of the library.
  const softmaxGates = (form, row, d) => {
    const gates = gatePredictors(form, row, d);
    const raised = (tilt) => {
      const centre = gates[0].deviations.map((_, m) =>
        sumOf(gates.map((gate, k) => tilt[k] * gate.deviations[m]))
      );
      const variance = gates.map((gate) =>
        sumOf(gate.deviations.map((value, m) => (value - centre[m]) ** 2))
      );
      return [gates.map((gate, k) => gate.mean + variance[k] / 2), variance];
    };
    let tilt = softmax(gates.map((gate) => gate.mean));
    for (let i = 0; i < form.tilts; i += 1) {
      const [exponent, variance] = raised(tilt);
      const share = softmax(exponent);
      const shorter = 1 + sumOf(share.map((value, k) => value * variance[k]));
      tilt = tilt.map((value, k) => value + (share[k] - value) / shorter);
    }
    const normaliser = logSumExp(raised(tilt)[0]);
    return gates.map((gate) => gate.mean - normaliser);
  };

  const stickGates = (form, row, d) => {
    const sticks = gatePredictors(form, row, d).map(({ mean, deviations }) => {
      const size = Math.hypot(...deviations);
      const expected = (sign) =>
        sumOf(Array.from(form.nodes.numbers, (node, i) =>
          form.node_weights.numbers[i] * logSigmoid(sign * (mean + size * node))
        ));
      return { taken: expected(1), left: expected(-1) };
    });
    const [, components, width] = form.path.shape;
    return Array.from({ length: components }, (_, k) =>
      sumOf(sticks.map(({ taken, left }, s) => {
        const step = form.path.numbers[(d * components + k) * width + s];
        return step > 0 ? taken : step < 0 ? left : 0;
      }))
    );
  };

  // Each form gives the log density of a row under component k of draw d.
  const scorers = {
    quadratic: (form, row, d, k) => {
      const [, components, m, width] = form.factor.shape;
      const place = d * components + k;
      let total = form.constant.numbers[place];
      for (let i = 0; i < m; i += 1) {
        let whitened = 0;
        for (let j = 0; j < width; j += 1)
          whitened += form.factor.numbers[(place * m + i) * width + j] * row[form.columns[j]];
        total -= 0.5 * whitened * whitened;
      }
      return total;
    },
    linear: (form, row, d, k) => {
      const [, components, width] = form.form.shape;
      let total = 0;
      for (let j = 0; j < width; j += 1)
        total += form.form.numbers[(d * components + k) * width + j] * row[form.columns[j]];
      return total;
    },
    softmax_gates: (form, row, d, k) => row[form.unit] * softmaxGates(form, row, d)[k],
    stick_gates: (form, row, d, k) => row[form.unit] * stickGates(form, row, d)[k],
    negative_binomial: (form, row, d, k) => {
      const place = d * form.rate.shape[1] + k;
      const [shape, rate] = [form.shape.numbers[place], form.rate.numbers[place]];
      const [count, logFactorial] = form.columns.map((column) => row[column]);
      return logGammaGap(shape, count) - logFactorial
        - shape * Math.log1p(1 / rate) - count * Math.log1p(rate);
    },
    student: (form, row, d, k) => {
      const [, components, p, q] = form.coefficients.shape;
      const groups = form.dof.shape[2];
      const size = q / groups;
      const place = d * components + k;
      const x = form.regressors.map((column) => row[column]);
      const residual = form.columns.map((column, i) => {
        let mean = 0;
        for (let j = 0; j < p; j += 1)
          mean += x[j] * form.coefficients.numbers[(place * p + j) * q + i];
        return row[column] - mean;
      });
      let inflation = 1;
      for (let i = 0; i < p; i += 1) {
        let own = 0;
        for (let j = 0; j < p; j += 1) own += form.rows.numbers[(place * p + i) * p + j] * x[j];
        inflation += own * own;
      }
      const squares = new Array(groups).fill(0);
      let total = 0;
      for (let i = 0; i < q; i += 1) {
        let own = 0;
        for (let j = 0; j < q; j += 1)
          own += form.whitening.numbers[(place * q + i) * q + j] * residual[j];
        squares[Math.floor(i / size)] += own * own;
        total += Math.log(form.whitening.numbers[(place * q + i) * q + i]);
      }
      for (let g = 0; g < groups; g += 1) {
        const dof = form.dof.numbers[place * groups + g];
        total -= (size / 2) * Math.log(inflation);
        if (Number.isFinite(dof))
          total += logGammaGap(dof / 2, size / 2) - (size / 2) * Math.log(Math.PI * dof)
            - ((dof + size) / 2) * Math.log1p(squares[g] / (dof * inflation));
        else total -= 0.5 * (squares[g] / inflation + size * Math.log(2 * Math.PI));
      }
      return total;
    },
  };

  const drawsOf = (form) =>
    (form.form || form.factor || form.coefficients || form.rate || form.values).shape[0];

  // Log densities of a row, of every component for each draw.
  const scores = (forms, row, components) =>
    Array.from({ length: drawsOf(forms[0]) }, (_, d) =>
      Array.from({ length: components }, (__, k) =>
        forms.reduce((total, form) => total + scorers[form.kind](form, row, d, k), 0)
      )
    );

  const componentMean = (response, row, d, k) => {
    const [, components, size] = response.coefficients.shape;
    const start = (d * components + k) * size;
    const p = response.regressors.length;
    const found = [];
    for (let m = 0; m < response.predictors; m += 1) {
      let own = m === 0 && response.offset !== null ? row[response.offset] : 0;
      for (let j = 0; j < p; j += 1)
        own += response.coefficients.numbers[start + m * p + j] * row[response.regressors[j]];
      found.push(own);
    }
    for (let j = response.predictors * p; j < size; j += 1)
      found.push(response.coefficients.numbers[start + j]);
    const trials = response.trials === null ? 1 : row[response.trials];
    return inverseLink[response.link](found, trials).map(
      (value) => value * response.scale + response.shift
    );
  };

  class Model {
    constructor(described) {
      this.components = described.components;
      this.columns = described.columns;
      this.memberships = described.memberships.map(unpacked);
      this.weights = described.weights.map(unpacked);
      this.responses = described.responses.map(unpacked);
    }

    row(values) {
      const standard = this.columns.map((column) => {
        if (column === null) return 0;
        const raw = column.product.reduce((total, tree) => total * evaluate(tree, values), 1);
        return (raw - column.shift) / column.scale;
      });
      // The row is a group of its own, if rows come in groups.
      return [1, ...standard, 1, 1];
    }

    predict(values) {
      const row = this.row(values);
      const shares = scores(this.memberships, row, this.components).map(softmax);
      const clusters = Array.from({ length: this.components }, (_, k) =>
        shares.reduce((total, own) => total + own[k], 0) / shares.length
      );
      // Draws under which the row is likelier count for more.
      const k = this.components;
      const joint = softmax(scores(this.weights, row, k).flat());
      const weights = Array.from({ length: joint.length / k }, (_, d) =>
        joint.slice(d * k, (d + 1) * k)
      );
      const responses = this.responses.map((response) => {
        const each = Array.from({ length: this.components }, () => null);
        const mean = [];
        weights.forEach((own, d) =>
          own.forEach((weight, k) => {
            const here = componentMean(response, row, d, k);
            each[k] = here.map((value, i) => (each[k] ? each[k][i] : 0) + value / weights.length);
            here.forEach((value, i) => {
              mean[i] = (mean[i] || 0) + weight * value;
            });
          })
        );
        return { name: response.name, levels: response.levels, mean, each };
      });
      return { clusters, responses };
    }
  }

  // -- the panel -----------------------------------------------------------------------------

  const shown = (value) => {
    if (!Number.isFinite(value)) return "not defined here";
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  };

  const panel = (place, described) => {
    const model = new Model(described);
    const form = make("form", undefined, { class: "inputs" });
    const fields = described.inputs.map((input, i) => {
      const id = `input-${i}`;
      const label = make("label", input.name, { for: id });
      const field = input.levels ? make("select", undefined, { id }) : make("input", undefined, {
        id, type: "number", step: "any", value: input.start, inputmode: "decimal",
      });
      (input.levels || []).forEach((level, j) => field.append(make("option", level, { value: j })));
      if (input.levels) field.value = String(input.start);
      const pair = make("div", undefined, { class: "field" });
      pair.append(label, field);
      form.append(pair);
      return field;
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    const output = make("div", undefined, { "aria-live": "polite", id: "panel-output" });
    place.append(form, output);

    const fill = () => {
      const values = new Map(described.inputs.map((input, i) => [input.name, Number(fields[i].value)]));
      const empty = described.inputs.filter((_, i) => fields[i].value.trim() === "");
      if (empty.length) {
        output.replaceChildren(make("p", `Enter ${empty.map((input) => input.name).join(", ")}.`));
        return;
      }
      const answer = model.predict(values);
      const table = make("table", undefined, { class: "numbers" });
      table.append(make("caption", "Each cluster's probability and its own prediction"));
      const head = table.createTHead().insertRow();
      ["Cluster", "Probability", ...answer.responses.flatMap((r) => r.levels || [r.name])].forEach(
        (text) => head.append(make("th", text, { scope: "col" }))
      );
      const body = table.createTBody();
      answer.clusters.forEach((share, k) => {
        const row = body.insertRow();
        row.append(make("th", String(k), { scope: "row" }));
        const cell = make("td", undefined, { "data-exact": share });
        const bar = make("span", undefined, { class: "bar", "aria-hidden": "true" });
        bar.style.width = `${(100 * share).toFixed(1)}%`;
        cell.append(make("span", `${(100 * share).toFixed(1)}%`), bar);
        row.append(cell);
        answer.responses.forEach((r) => r.each[k].forEach((value) => row.append(make("td", shown(value)))));
      });
      if (answer.responses.length) {
        const row = table.createTFoot().insertRow();
        row.append(make("th", "All", { scope: "row" }), make("td", ""));
        answer.responses.forEach((r) =>
          r.mean.forEach((value) => row.append(make("td", shown(value), { "data-exact": value })))
        );
      }
      output.replaceChildren(table);
    };
    form.addEventListener("input", fill);
    fill();
  };

  const described = document.getElementById("model");
  if (described) panel(document.getElementById("panel"), JSON.parse(described.textContent));
})();
