"use strict";
// Rule 5: a share of the time names the benchmark that measured it, in the same sentence.

const { rule } = require("./sentences.js");

const SHARE =
  /\b(?!100\b)\d+(\.\d+)?\s?(%|percent\b)|\b(?:thirds?|quarters?|fifths?|sixths?|sevenths?|eighths?|tenths?)\s+(?:of|more|less|slower|faster)\b(?!\s+(?:a\s+)?(?:second|minute|hour|line))/gi;

module.exports = rule(({ source, text }, report, { benchmarks = [] }) => {
  const named = benchmarks.some((name) => new RegExp(`\`[^\`]*(?<!\\w)${name}(?!\\w)[^\`]*\``).test(source));
  if (named) {
    return;
  }
  for (const match of text.matchAll(SHARE)) {
    report(match.index, match[0].length, `"${match[0]}": name the benchmark, as in "4 % of a bare yield (\`switch\`)"`);
  }
});
