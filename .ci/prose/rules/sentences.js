"use strict";
// What the rules share: a rule that is a function of the sentences of a paragraph.

const ABBREVIATION = /(?:\b(?:e\.g|i\.e|etc|cf|vs|ch|no|No|fig|p|pp)\.|\.\.\.)["')\]*_]*$/;
const END = /[.!?]["')\]*_]*\s+(?=["'(\[*_`]*[A-Z0-9`])/g;

/** Return the text with code, Python's values, file names, targets of links and HTML filled by `x`, so that offsets stay. */
function withoutCode(text) {
  const fill = (span) => span.replace(/[^`\n]/g, "x");
  return text
    .replace(/(`+)[^`][\s\S]*?\1(?!`)/g, fill)
    .replace(/\b(?:None|True|False)\b/g, fill)
    .replace(/\b[\w/]+\.py\b/g, fill)
    .replace(/\]\([^)\s]*\)/g, (target) => `](${"x".repeat(target.length - 3)})`)
    .replace(/<[a-z/!][^>\n]*>/gi, fill);
}

/** Split a paragraph: each sentence has its `start`, its `text` without code, and its `source` with code. */
function split(source) {
  const text = withoutCode(source);
  const sentences = [];
  let start = 0;
  const add = (end) => {
    sentences.push({ start, text: text.slice(start, end), source: source.slice(start, end) });
    start = end;
  };
  for (const match of text.matchAll(END)) {
    const end = match.index + match[0].length;
    if (!ABBREVIATION.test(text.slice(start, end).trimEnd())) {
      add(end);
    }
  }
  add(text.length);
  return sentences;
}

/** Make a textlint rule of `check(sentence, report, options)`; the offset of a report is in the sentence. */
function rule(check) {
  return ({ Syntax, RuleError, report, getSource, locator }, options = {}) => {
    const paragraph = (node) => {
      // The first sentence of a document's paragraph, or of a docstring or comment, which is an item of a list.
      const opens = node.parent?.type !== Syntax.ListItem || node.parent.children[0] === node;
      split(getSource(node)).forEach((sentence, index) => {
        const here = (offset, length, message) => {
          const at = sentence.start + offset;
          report(node, new RuleError(message, { padding: locator.range([at, at + Math.max(1, length)]) }));
        };
        check({ ...sentence, opens: opens && index === 0 }, here, options);
      });
    };
    return { [Syntax.Paragraph]: paragraph, [Syntax.Header]: paragraph, [Syntax.TableCell]: paragraph };
  };
}

/** Make a rule of `[pattern, instead]` pairs. A space in a pattern is any white space; a match has whole words. */
function phrases(pairs) {
  const compiled = pairs.map(([pattern, instead]) => {
    const source = pattern.source.replaceAll(" ", "\\s+");
    return [new RegExp(`(?<![\\w-])(?:${source})(?![\\w-])`, "gi"), instead];
  });
  return rule((sentence, report) => {
    const claimed = [];
    for (const [pattern, instead] of compiled) {
      for (const match of sentence.text.matchAll(pattern)) {
        const end = match.index + match[0].length;
        if (claimed.every(([from, to]) => end <= from || match.index >= to)) {
          claimed.push([match.index, end]);
          report(match.index, match[0].length, `"${match[0].replace(/\s+/g, " ")}": ${instead}`);
        }
      }
    }
  });
}

module.exports = { rule, phrases };
