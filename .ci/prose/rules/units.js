"use strict";
// Rule 6: the name of a constant that holds a number ends in its unit or in what it counts.

const { rule } = require("./sentences.js");

module.exports = rule(({ text }, report, { units = [] }) => {
  const name = /^Constant\s+([a-z0-9 ]+)$/.exec(text.trim())?.[1];
  if (name && !name.split(" ").some((word) => /[a-z]{2,}[^s]s$/.test(word) || units.includes(word))) {
    report(0, text.length, `${name.toUpperCase().replaceAll(" ", "_")}: end the name in its unit (_SECONDS) or in what it counts (MAX_THREADS)`);
  }
});
