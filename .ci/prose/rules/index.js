"use strict";
// A preset of textlint's: `check` links this folder as `textlint-rule-preset-minisched`.

const rules = {
  clauses: require("./clauses.js"),
  percentages: require("./percentages.js"),
  subjects: require("./subjects.js"),
  terms: require("./terms.js"),
  units: require("./units.js"),
};

module.exports = { rules, rulesConfig: Object.fromEntries(Object.keys(rules).map((name) => [name, true])) };
