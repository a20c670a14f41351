"use strict";
// Rule 4: the field's terms. Rule 2: a verb that says what happens, in place of "told". The first match wins.

const { phrases } = require("./sentences.js");

const WAITER = 'write "the waiter" or "a waiting task"';
const VERB = 'name the event: "raises", "returns", "is woken", "is called", "is notified", "is reported"';

module.exports = phrases([
  // Events.
  [/told apart|tells? (\w+ )?apart/, 'write "distinguished"'],
  [/told/, VERB],
  [/tells? (of|nobody|everybody|who\w*|its|a joiner|(the )?(poller|kernel|loop|selector|parent|task|waiters?|watchers?|joiners?))/, 'write "notifies" or "reports"'],
  [/(leaves?|left|leaving) word/, 'write "registers with" or "schedules a call in"'],
  [/(hears?|heard) (of|about)|heard by/, 'write "is notified of" or "receives"'],
  [/(is|are|was|were|be|been|being) said/, 'write "is logged", "is reported" or "is raised"'],
  [/(takes?|took|taken|taking) note of/, 'write "records"'],
  [/(sees?|saw|seen) to( it)?/, 'write "handles" or "ensures"'],
  [/in(to)? words/, 'write "explains" or "reports"'],
  [/bring(s|ing)? about/, 'write "causes" or "completes"'],

  // Terms.
  [/limits? (of|in) time/, 'write "timeout"'],
  [/(?<!garbage )collector('s)?/, 'write "garbage collector"'],
  [/(own|processor|server's) (processor )?time/, 'write "user CPU time"'],
  [/batter(y|ies)/, 'write "conformance test"'],
  [/los(ing|t) options?|losers?/, 'write "Rejected:" or "rejected alternative"'],
  [/scopes? of cancellation/, 'write "cancellation scope"'],
  [/wakeups?(?!\.py)|(an?|the|each|every|of) wake ups?/, 'write "wake-up"'],
  [/(queues?|lists?) of (the )?ready tasks|tasks' queue/, 'write "ready queue"'],
  [/loop of events|events' loop/, 'write "event loop"'],
  [/look(s|ed|ing)? (again )?at (files?|sockets?|timers?|numbers?|them|it again)/, 'write "poll" (files) or "check"'],
  [/(is|are|was|were|be|been|being) (only )?looked (at|for|up)/, 'write "is polled" (files), "is checked" or "is searched"'],
  [/files are (looked|asked)( at| for)?|ask(s|ed)? the selector( for files)?/, 'write "polls"'],
  [/(\d+|one|two|three|each|last|first|every|no|between) looks?(?! (like|as))|a look at (it|files)/, 'write "poll" (files) or "check"'],
  [/(file|file's|files') numbers?|numbers? (over|of a file|that (was|were|is|are) (closed|reused|dropped))/, 'write "file descriptor"'],
  [/behind (our|its|the \w+'s) backs?/, 'write "outside the scheduler"'],
  [/the other side('s)?/, 'write "the peer"'],
  [/hand(s|ed|ing)? outward/, 'write "reparented to the enclosing scope"'],
  [/whose turn it (is|was)/, 'write "the running task"'],
  [/wait(s|ed|ing)? in line|(last|first) in the line|lines? of (tasks|waiters)/, 'write "queue"'],
  [/(hang|hangs|hung|hanging) (under|there|below)/, 'write "is a child of"'],
  [/nothing outlives its parent/, 'write "structured concurrency: a task ends after its children"'],

  // People in place of tasks.
  [/who(ever)? (waits?|waited|is waiting)( for (whom|what|it))?/, WAITER],
  [/(those|others|the (one|first|last|next)|all|many|everybody|anybody|somebody|someone) (of those )?(who|whom)/, 'write the noun: "tasks that", "waiters", "the task that"'],
  [/(first|next|last|second) who/, 'write the noun: "the first waiter", "the next task"'],
  [/who(m|so)?ever/, 'write the noun: "the task that", "the caller", "any code that"'],
  [/(to|of|for|by|with|from|if|that|when|before|after|until|than|but|neither|only|over|as) (who|whom it|whose turn)/, 'write the noun: "the waiter", "the task that"'],
  [/(nobody|somebody|anybody|everybody) else('s)?|nobody's|somebody's|everybody's/, 'write "no other task", "unowned", "another owner\'s"'],

  [/(returns?|says?|names?|shows?|prints?|knows?) (for |to |by )?(who|whom|whose)/, 'write the noun: "return the waiting task"'],
  [/somebody/, 'write the noun: "another task", "the caller"'],
  [/(is|are|was|were|be|been|being) waited for/, 'write "has a waiter", or name the task that waits'],

  // What is not.
  [/(?<!(there|that|which|else|reason|reasons) )(?<!there's )(is|are|was|were) no (?!longer|more|different|better|worse|less|fewer|need|such|doubt|help|reason|way|room)[\w-]+/, 'write "is not a"'],
  [/(what|that|which) (is|are|was) (no|none)/, 'write "is not a"'],
  [/of none|none of (ours|them's)|makes? none/, 'write the noun'],
  [/what (there is|is there|is had|is none|(could|can|can't|could not) be)( not| had| done)?/, 'write the noun'],
  [/(is|are|was|were|be|been) (to be |not )?had|can't be had/, 'write "is available" or "is acquired"'],
  [/(is|are|was|be) nothing but/, 'write "is only"'],

  // Idioms of the old text.
  [/on (its|their) way( to (it|them))?/, 'write "is already queued" or "is delivered"'],
  [/in the order of (its|their|his) (coming|ends?|asking)/, 'write "in order of arrival" or "in FIFO order"'],
  [/cuts? (nothing|no \w+) short/, 'write "interrupts nothing"'],
  [/what (it|they|one|he) (was|is|were|are) (asked|given|there)( for)?/, 'write the noun: "the request", "the argument"'],
  [/(is|are) as good as (its|their)/, 'write what is guaranteed'],
  [/(is|are|was|were|be) (then )?forgotten/, 'write "is discarded", "is cancelled" or "is unregistered"'],
  [/(come|comes|came|coming) to (its|their|an|the|one's) (own )?ends?/, 'write "finishes"'],
  [/(come|comes) of (it|that|this)|what (comes|came|becomes|became) of/, 'write "its result" or "the outcome of"'],
  [/made and (is |was |are )?(never|not) (run|awaited)/, 'write "created but never run"'],
  [/mak(e|es|ing) (an? |the )?(\w+ )?(tasks?|scope|call) (out )?of/, 'write "creates a task from"'],
  [/(make|makes|made|set|begun|register|registered) anew|anew/, 'write "recreated" or "again"'],
  [/for the time of/, 'write "during"'],
  [/as a rule/, 'write "usually"'],
  [/in vain/, 'write "without a result" or "unnecessarily"'],
  [/without (ado|a word)/, 'write "without an error" or "silently"'],
  [/(break|breaks|broke|broken|breaking) off/, 'write "aborted" or "interrupted"'],
  [/bears?( with)?/, 'write "tolerates" or "ignores"'],
  [/put(s|ting)? right|mend(s|ed|ing)?/, 'write "fix"'],
  [/reckon(s|ed|ing)?/, 'write "compute"'],
  [/speaks? of/, 'write "refers to"'],
  [/so many (?!that|of)[a-z]+s|for so long|so long in/, 'write the number or the parameter: "`n` seconds"'],
  [/as (many|much|long) as (there )?(may|can) be/, 'write the bound'],
  [/(body|task|run|turn|wait|time|second|seconds|s|it|that|they|lifetime) (is|are|was|were) over(?! (the|a|an|its|\d|\w+ (ms|s)))/, 'write "has ended" or "has elapsed"'],
  [/(is|are|was|be) (then )?(ours|theirs|its own affair)/, 'name the owner'],
  [/one (looks|asks|wants|needs|sees)/, 'name the subject'],
  [/be (the handler|a worker|the kernel's hook|what|free for|the copy|found by)/, 'write what the function does'],
  [/that is to say|so to say|such as it is/, 'leave it out'],
  [/once (for all|in a while)|now and then/, 'write how often'],
  [/(gone|went|go|goes) on (for ever|as before)/, 'write "continues"'],
  [/in the midst of|midway/, 'write "during" or "partway"'],
  [/to (call|ask|set|forget|cancel|spawn|enter|release|acquire|wait|take|make|give|drop|keep|publish|add|join|stop)( \w+){0,3} (is|takes|costs|serves|does|waits|refuses) (?!needed|enough)/, 'write the gerund or a noun: "calling it costs ..."'],
]);
