package deliver

import (
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// historyLen is how many failed attempts of a message are remembered, the newest.
const historyLen = 5

// remember keeps why a delivery failed until its message is settled. Only who fails costs anything; a flow
// remembers at most its window's messages.
func (s *shard) remember(sl *slot, feedback string) {
	f := sl.flow
	t := tried{seq: sl.seq, letter: sl.letter}
	if f.over(t) {
		return
	}
	if f.failures == nil {
		f.failures = map[tried][]Attempt{}
	}
	kept := append(f.failures[t], Attempt{
		Number: sl.attempts, Member: nameOf(sl.member), SentMs: sl.sentMs, EndedMs: s.nowMs, Feedback: feedback,
	})
	if len(kept) > historyLen {
		kept = append(kept[:0], kept[1:]...)
	}
	f.failures[t] = kept
}

// lastFeedback is what the last failed attempt came to, "" when there was none or a restart forgot it.
func (f *flow) lastFeedback(t tried) string {
	t.attempts = 0
	if kept := f.failures[t]; len(kept) > 0 {
		return kept[len(kept)-1].Feedback
	}
	return ""
}

// nameOf is the member's address, if it can name itself.
func nameOf(m kite.Member) string {
	if named, ok := m.(fmt.Stringer); ok {
		return named.String()
	}
	return ""
}
