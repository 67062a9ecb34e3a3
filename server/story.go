package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Story implements admin.Operator: what became of a message, and why. What was comes from the journal, what
// the broker did about silence from the checker, and how it stands with each group from the routes, the
// flows and the lane. What nobody wrote down is told as unknown.
func (s *Server) Story(ctx context.Context, id kite.MessageID) (operate.Story, error) {
	facts, err := s.facts(id)
	if err != nil {
		return operate.Story{}, err
	}
	if len(facts) == 0 {
		return operate.Story{}, kite.Errorf(kite.NotServed, "message %s: this broker has no record of that id; those that retention removed are gone", id)
	}
	story := operate.Story{ID: id.String(), Broker: s.advertised, Events: []operate.Event{}}
	m := tellFacts(&story, facts)
	s.tellSilence(&story, id, m)
	if m.seq > 0 {
		groups, err := s.tellGroups(ctx, id, m)
		if err != nil {
			return story, err
		}
		story.Events = append(story.Events, groups...)
	}
	slices.SortStableFunc(story.Events, compareEvents)
	return story, nil
}

// compareEvents puts what is so now behind what was.
func compareEvents(a, b operate.Event) int {
	switch {
	case (a.AtMs == 0) != (b.AtMs == 0):
		if a.AtMs == 0 {
			return 1
		}
		return -1
	case a.AtMs < b.AtMs:
		return -1
	case a.AtMs > b.AtMs:
		return 1
	}
	return 0
}

// told is the message that the facts are about.
type told struct {
	topic, messageType string
	seq                kite.Seq
	preparedMs         int64 // 0: it was not
	expiresMs          int64
}

// tellFacts tells each record, and returns the message.
func tellFacts(story *operate.Story, facts []fact) (m told) {
	for i := range facts {
		f := &facts[i]
		if f.Topic != "" {
			m.topic = f.Topic
		}
		switch f.Kind {
		case kite.KindMessage, kite.KindPrepared, kite.KindDelayed:
			if len(f.Type) > 0 {
				m.messageType, story.Publisher = string(f.Type), string(f.Group)
			}
			m.expiresMs = max(m.expiresMs, f.ExpiresMs)
		}
		switch f.Kind {
		case kite.KindMessage, kite.KindCommit:
			m.seq = f.Seq
		case kite.KindPrepared:
			m.preparedMs = f.TimeMs
		}
		what, group, text := f.tell()
		story.Events = append(story.Events, operate.Event{AtMs: f.TimeMs, What: what, Group: group, Text: text})
	}
	story.Topic, story.Type, story.Seq = m.topic, m.messageType, uint64(m.seq)
	if m.expiresMs > 0 && m.seq > 0 {
		story.Events = append(story.Events, operate.Event{AtMs: m.expiresMs, What: operate.Expires, Text: "from here on it is delivered no more"})
	}
	return m
}

// tell says in words what the record states.
func (f *fact) tell() (what, group, text string) {
	switch f.Kind {
	case kite.KindMessage:
		if f.Seq == 0 {
			return operate.Stored, "", "stored; its bytes were removed since"
		}
		return operate.Stored, "", fmt.Sprintf("stored as seq %d, published by group %s", f.Seq, f.Group)
	case kite.KindPrepared:
		return operate.Prepared, "", fmt.Sprintf("prepared by group %s: delivered to nobody until it is committed", f.Group)
	case kite.KindDelayed:
		done := "stored"
		if f.Ref != 0 {
			done = "committed" + byWhom(f.note)
		}
		return operate.Delayed, "", fmt.Sprintf("%s; delivered from %s on", done, moment(f.DueMs))
	case kite.KindCommit:
		if f.DueMs > 0 {
			return operate.Stored, "", fmt.Sprintf("its time has come: stored as seq %d", f.Seq)
		}
		return operate.Committed, "", fmt.Sprintf("committed as seq %d%s", f.Seq, byWhom(f.note))
	case kite.KindRollback:
		return operate.RolledBack, "", "rolled back" + byWhom(f.note) + "; it is never delivered"
	case kite.KindPark:
		return operate.Parked, "", "parked" + byWhom(f.note) + "; it waits for an operator"
	case kite.KindDead:
		text := fmt.Sprintf("dead letter %d after %d attempts: %s", f.Seq, f.letter.Attempts, f.letter.Reason)
		if f.letter.Feedback != "" {
			text += "; the last attempt: " + f.letter.Feedback
		}
		return operate.Dead, string(f.Group), text
	case kite.KindOrder:
		return f.tellOrder()
	}
	return operate.Unknown, "", "record of kind " + f.Kind.String()
}

func (f *fact) tellOrder() (what, group, text string) {
	switch f.order.Action {
	case kite.ActionRefuse:
		wanted := "commit"
		if f.order.Outcome == kite.OutcomeRolledBack {
			wanted = "rollback"
		}
		return operate.Refused, "", wanted + byWhom(f.order.Note) + ", refused: the first decision stands"
	case kite.ActionRecheck:
		return operate.Rechecked, "", "no longer parked" + byWhom(f.order.Note) + "; its producer is asked again"
	case kite.ActionCancel:
		return operate.Cancelled, "", "cancelled" + byWhom(f.order.Note) + "; it is never delivered"
	case kite.ActionRequeue:
		return operate.Requeued, string(f.Group), fmt.Sprintf("dead letter %d is delivered again%s", f.Seq, byWhom(f.order.Note))
	case kite.ActionDiscard:
		return operate.Discarded, string(f.Group), fmt.Sprintf("dead letter %d is done with%s", f.Seq, byWhom(f.order.Note))
	}
	return operate.Unknown, string(f.Group), f.order.Action.String() + byWhom(f.order.Note)
}

// byWhom says who did it and why, also when nobody wrote that down.
func byWhom(n kite.Note) string {
	if n.By == "" {
		n.By = "somebody unknown"
	}
	return by(n)
}

// tellSilence tells what the checker did about a message while it was undecided. It knows of nothing before the
// start, and of decided ones only the newest.
func (s *Server) tellSilence(story *operate.Story, id kite.MessageID, m told) {
	var seen []operate.Event
	add := func(atMs int64, what, format string, args ...any) {
		seen = append(seen, operate.Event{AtMs: atMs, What: what, Text: fmt.Sprintf(format, args...)})
	}
	defer func() { story.Events = append(seen, story.Events...) }() // a check comes before the decision of its ms
	sight, undecided := s.checker.Look(id)
	if !undecided {
		sight, _ = s.checker.Recall(id)
	}
	if sight.Checks > 0 {
		add(sight.AskedMs, operate.Checked, "check %d sent to %s", sight.Checks, sight.Asked)
	}
	if sight.AnsweredMs > 0 {
		add(sight.AnsweredMs, operate.Answered, "%s answered a check and could not decide", sight.Answered)
	}
	if m.preparedMs > 0 && m.preparedMs < s.madeMs && (undecided || sight.Checks > 0) {
		add(s.madeMs, operate.Unknown, "the broker started; which checks it sent before is not known")
	}
	switch {
	case !undecided:
		return
	case sight.Parked:
		add(sight.NextMs, operate.NextCheck, "rolled back if nobody has decided by then")
		return
	case sight.Checks == 0:
		add(0, operate.Waiting, "no check sent yet; %s", s.tellWhom(story.Publisher))
	case !s.directory.Online(story.Publisher):
		add(0, operate.Waiting, "%s", s.tellWhom(story.Publisher))
	}
	add(sight.NextMs, operate.NextCheck, "the next check is due")
}

// tellWhom says whom of the publishing group checks go to now.
func (s *Server) tellWhom(group string) string {
	if s.directory.Online(group) {
		return "its group is connected"
	}
	hook, ok := s.hooks.Look(group)
	if !ok {
		return fmt.Sprintf("nobody of group %s is connected, and checks wait for that", group)
	}
	text := fmt.Sprintf("nobody of group %s is connected: checks go to its %s", group, hook.By)
	if hook.Failure != "" {
		text += fmt.Sprintf(", which failed at %s: %s", moment(hook.FailedMs), hook.Failure)
	}
	if hook.RestsMs > 0 {
		text += "; it is left alone until " + moment(hook.RestsMs)
	}
	return text
}

// moment writes a time as the log does.
func moment(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
