"use strict";
// Rule 1: the subject of a sentence is a noun, never "who", "what" or a bare "it".

const { rule } = require("./sentences.js");

const OPENING = "^[\"'(\\[*_\\s]*";
const START = [
  [/(who|whose|whom|whoever)/, 'the subject is a noun: "the waiter", "the task that", "the owner"'],
  [/(what|whatever|whichever)/, 'the subject is a noun: "the value", "the syscall", "the reason"'],
  [/(that|whether|how) (a|an|the|it|they|this|nobody|something|many|much|to|long|far)/, "the subject is a noun, not a clause"],
  [/(be|have|let (no|nobody|somebody|more|what|who|it|them|there))/, 'begin with an active verb: "handle", "call", "notify", "refuse", "allow"'],
  [/as (?=`x+`[,;])/, 'write "Like"'],
  [/other than/, 'write "Unlike"'],
  [/(those|others|all|nobody|somebody|everybody|one) (who|whom|looks|may|can|has|is to)/, "the subject is a noun"],
].map(([pattern, instead]) => [new RegExp(OPENING + pattern.source + "(?![\\w-])", "i"), instead]);
const PRONOUN = new RegExp(OPENING + "(it|they)(?![\\w-])", "i");
const CLAUSE = /(?<=[;:]\s+)(who|whoever|what|whatever|which)(?=\s+[a-z`])/gi;

module.exports = rule(({ text, opens }, report) => {
  if (/\?["')\]*_]*\s*$/.test(text)) {
    return; // a question
  }
  for (const [pattern, instead] of START) {
    const match = pattern.exec(text);
    if (match) {
      report(0, match[0].length, `"${match[0].trim()} ...": ${instead}`);
    }
  }
  if (opens && PRONOUN.test(text)) {
    report(0, 2, '"It ...": the first sentence of a paragraph names its subject');
  }
  for (const match of text.matchAll(CLAUSE)) {
    report(match.index, match[0].length, `"${match[0]} ..." after ";" or ":": the subject is a noun`);
  }
});
