package server

import (
	"context"
	"strconv"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Letters implements admin.Operator: those that nobody has discarded.
func (s *Server) Letters(ctx context.Context, f operate.Filter, whole bool) (operate.Letters, error) {
	after, err := strconv.ParseUint(f.After, 10, 64)
	if err != nil && f.After != "" {
		return operate.Letters{}, kite.Errorf(kite.Invalid, "after %.32q: give the n of a dead letter", f.After)
	}
	standing, err := s.standing(ctx, f.Topic, f.Group)
	if err != nil {
		return operate.Letters{}, err
	}
	page := operate.Letters{Letters: []operate.Letter{}}
	var bad error
	from := max(kite.Seq(after)+1, standing.Letters.Floor())
	err = s.journal.Read(kite.DeadStream(f.Topic, f.Group), from, func(r *kite.Record) bool {
		if standing.Letters.Contains(r.Seq) {
			return true
		}
		if len(page.Letters) == f.Limit {
			page.Next = strconv.FormatUint(page.Letters[f.Limit-1].N, 10)
			return false
		}
		var letter operate.Letter
		if letter, bad = newLetter(r, f.Topic, f.Group, standing, whole); bad != nil {
			return false
		}
		page.Letters = append(page.Letters, letter)
		return ctx.Err() == nil
	})
	if err == nil {
		err = bad
	}
	if err == nil {
		err = ctx.Err()
	}
	return page, err
}

// standing returns where the group stands, as if it had done nothing when nothing is known.
func (s *Server) standing(ctx context.Context, topic, group string) (*kite.Standing, error) {
	all, err := s.lane.Standings(ctx, topic, group)
	if err != nil || len(all) == 0 {
		return &kite.Standing{}, err
	}
	return all[0].Standing, nil
}

// newLetter copies what of the view is told; whole adds the message.
func newLetter(r *kite.Record, topic, group string, standing *kite.Standing, whole bool) (operate.Letter, error) {
	l, err := kite.DecodeDeadLetter(r.Body)
	if err != nil {
		return operate.Letter{}, err
	}
	letter := operate.Letter{
		N: uint64(r.Seq), Topic: topic, Group: group, ID: r.ID.String(), Type: string(r.Type), Seq: uint64(l.Seq),
		Attempts: int(l.Attempts), Reason: l.Reason, Feedback: l.Feedback, PublishedMs: l.PublishedMs, DiedMs: r.TimeMs,
		State: letterState(standing, r.Seq),
	}
	if whole {
		letter.Header, letter.Body = unpack(l.Command, l.Payload)
	}
	return letter, nil
}

func letterState(standing *kite.Standing, n kite.Seq) string {
	switch {
	case standing.Letters.Contains(n):
		return operate.Discarded
	case standing.IsRequeued(n):
		return operate.Requeued
	}
	return operate.Dead
}

// Letter implements admin.Operator.
func (s *Server) Letter(ctx context.Context, topic, group string, n kite.Seq) (letter operate.Letter, err error) {
	standing, err := s.standing(ctx, topic, group)
	if err != nil {
		return letter, err
	}
	stream := kite.DeadStream(topic, group)
	found := false
	var bad error
	err = s.journal.Read(stream, n, func(r *kite.Record) bool {
		if found = r.Seq == n; found {
			letter, bad = newLetter(r, topic, group, standing, true)
		}
		return false
	})
	if err == nil {
		err = bad
	}
	if err == nil && !found {
		first, next := s.journal.Bounds(stream)
		if first == next {
			return letter, kite.Errorf(kite.NotServed, "dead letter %d of group %q on topic %q: it has none", n, group, topic)
		}
		return letter, kite.Errorf(kite.NotServed, "dead letter %d of group %q on topic %q: there are %d to %d", n, group, topic, first, next-1)
	}
	return letter, err
}

// Dispose implements admin.Operator.
func (s *Server) Dispose(ctx context.Context, topic, group string, n kite.Seq, requeue bool, note kite.Note) (operate.Letter, error) {
	letter, err := s.Letter(ctx, topic, group, n)
	if err != nil {
		return letter, err
	}
	order := kite.Order{Action: kite.ActionDiscard, Note: note}
	if requeue {
		order.Action = kite.ActionRequeue
		if letter.State == operate.Discarded {
			return letter, kite.Errorf(kite.TxConflict, "dead letter %d of group %q on topic %q: it is discarded", n, group, topic)
		}
	}
	id, _ := kite.ParseMessageID(letter.ID) // so that the message's story tells of it
	if _, err = s.order(ctx, kite.Record{ID: id, Topic: topic, Group: []byte(group), Seq: n}, order); err != nil {
		return letter, err
	}
	return s.Letter(ctx, topic, group, n)
}
