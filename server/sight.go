package server

import (
	"cmp"
	"context"
	"fmt"

	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// tellGroups says for each group of the topic how it stands with a committed message: what its flow says, and
// for groups without one what they had recorded.
func (s *Server) tellGroups(ctx context.Context, id kite.MessageID, m told) (events []operate.Event, err error) {
	sights, err := s.dispatcher.Look(ctx, m.topic, m.seq, id)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i := range sights {
		g := &sights[i]
		seen[g.Group] = true
		for _, e := range tellSight(g, m) {
			e.Group = g.Group
			events = append(events, e)
		}
	}
	recorded, err := s.tellRecorded(ctx, m, seen)
	return append(events, recorded...), err
}

// tellSight tells the attempts, and then how it stands now.
func tellSight(g *deliver.GroupSight, m told) (events []operate.Event) {
	add := func(atMs int64, what, format string, args ...any) {
		events = append(events, operate.Event{AtMs: atMs, What: what, Text: fmt.Sprintf(format, args...)})
	}
	for _, a := range g.Failed {
		add(a.EndedMs, operate.Failed, "attempt %d, sent to %s at %s: %s", a.Number, member(a.Member), moment(a.SentMs), a.Feedback)
	}
	for _, a := range g.Sent {
		late := "not answered yet"
		if a.Late {
			late = "not answered in time, and the member still has it"
		}
		add(a.SentMs, operate.InFlight, "attempt %d sent to %s, %s", a.Number, member(a.Member), late)
	}
	if n := int(g.Attempts) - len(g.Failed) - len(g.Sent); n > 0 && (g.Stage == deliver.StageArmed || g.Stage == deliver.StageInFlight) {
		add(0, operate.Unknown, "%d attempts before; to whom and what came of them is not known any more", n)
	}
	switch g.Stage {
	case deliver.StageUnmatched:
		add(0, operate.Unmatched, "no binding of the group takes the type %q%s", m.messageType, nearestOf(g))
	case deliver.StageArmed:
		add(g.DueMs, operate.Armed, "%d attempts failed; the next is due", g.Attempts)
	case deliver.StageDying:
		add(0, operate.Dying, "its dead letter is being written: %s", g.Reason)
	case deliver.StageDead:
		add(0, operate.Dead, "dead letter %d%s: %s", g.Letter, letterText(g), g.Reason)
	case deliver.StageSettled:
		add(0, operate.Settled, "answered, or passed over")
	case deliver.StageUnknown:
		add(0, operate.Unknown, "not settled, and its bytes were removed")
	}
	for _, w := range g.Waits {
		add(0, operate.Waiting, "%s", waitText(w, g))
	}
	if g.Stage == deliver.StageWaiting && len(g.Waits) == 0 {
		add(0, operate.Waiting, "about to be sent")
	}
	return events
}

func member(addr string) string { return cmp.Or(addr, "a member that is not known any more") }

func nearestOf(g *deliver.GroupSight) string {
	if g.Nearest < 0 || g.Nearest >= len(g.Bindings) {
		return ""
	}
	b := g.Bindings[g.Nearest]
	return fmt.Sprintf("; the nearest is %s %q", b.Type, b.MessageType)
}

func letterText(g *deliver.GroupSight) string {
	switch {
	case g.Discarded:
		return ", done with"
	case g.Requeued:
		return ", being delivered again"
	}
	return ""
}

// waitText says why nothing is sent.
func waitText(w deliver.Wait, g *deliver.GroupSight) string {
	text := string(w.Cause)
	switch w.Cause {
	case deliver.CauseUnbound:
		text = "its binding is gone; its place is kept"
	case deliver.CausePaused:
		text = "an operator has paused the group"
	case deliver.CauseOffline:
		text = "nobody of the group is connected"
	case deliver.CauseBreaker:
		text = "every delivery failed: the breaker is open"
		if w.UntilMs == 0 {
			text += ", one probe is on its way"
		}
	case deliver.CauseWatermark:
		text = "over the group's watermark of deliveries a second"
	case deliver.CauseRead:
		text = "the journal could not be read; the log says where"
	case deliver.CauseJournal:
		text = "the journal takes no dead letter now"
	case deliver.CauseHeld:
		text = fmt.Sprintf("held behind seq %d: the group takes the topic in order", w.Seq)
		if w.Property != "" {
			text = fmt.Sprintf("held behind seq %d, which has the same %s", w.Seq, w.Property)
		}
	case deliver.CauseChanging:
		text = "the order of the group changed: what is under way ends first"
	case deliver.CauseWindow:
		text = "the group's window is full: too many are in flight or armed"
	case deliver.CauseNoCredit:
		text = "no member can take more: each has its share unanswered, or is warming up"
	case deliver.CauseBehind:
		text = fmt.Sprintf("the group has come to seq %d", g.Cursor)
	}
	if w.SinceMs > 0 {
		text += ", since " + moment(w.SinceMs)
	}
	if w.UntilMs > 0 {
		text += ", until " + moment(w.UntilMs)
	}
	return text
}
