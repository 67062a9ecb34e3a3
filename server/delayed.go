package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Bounds of one page of delayed messages: how many minutes are asked for at a time, and how many records are looked
// at. What a filter leaves out is looked at, too.
const (
	delayedMinutes = 64
	delayedLooks   = 100_000
)

// Delayed implements admin.Operator. The lane knows which places of which minutes wait, the journal what is there.
func (s *Server) Delayed(ctx context.Context, f operate.Filter) (operate.Delays, error) {
	stats := s.scheduler.Stats()
	l := delayedList{server: s, filter: f, page: operate.Delays{
		Delayed: []operate.Postponed{}, Waiting: s.lane.Delayed(), InMemory: stats.Entries, Minutes: stats.Minutes,
	}}
	if err := l.parseAfter(); err != nil {
		return l.page, err
	}
	for !l.full {
		minutes, err := s.lane.Waiting(ctx, l.minute, delayedMinutes)
		if err != nil {
			return l.page, err
		}
		for i := range minutes {
			if err := l.read(ctx, &minutes[i]); err != nil || l.full {
				return l.page, err
			}
		}
		if len(minutes) < delayedMinutes {
			break
		}
	}
	return l.page, nil
}

// delayedList gathers a page.
type delayedList struct {
	server *Server
	filter operate.Filter
	page   operate.Delays
	minute int64    // the list goes on here,
	place  kite.Seq // behind this place
	looks  int
	full   bool // there may be more, but not on this page
}

// parseAfter reads the Next of an earlier page.
func (l *delayedList) parseAfter() error {
	if l.filter.After == "" {
		return nil
	}
	minute, place, _ := strings.Cut(l.filter.After, "-")
	at, err := strconv.ParseUint(place, 10, 64)
	if err == nil {
		l.minute, err = strconv.ParseInt(minute, 10, 64)
	}
	if err != nil || l.minute < 0 {
		return kite.Errorf(kite.Invalid, "after %.80q: give the next of the page before", l.filter.After)
	}
	l.place = kite.Seq(at)
	return nil
}

// read lists what waits in a minute.
func (l *delayedList) read(ctx context.Context, w *sequence.Waiting) error {
	if w.Minute != l.minute {
		l.minute, l.place = w.Minute, 0
	}
	begin := len(l.page.Delayed)
	var elsewhere []kite.Position // 0: the message is in the record
	err := l.server.journal.Read(kite.DelayStream(w.Minute), max(l.place+1, w.Gone.Floor()), func(r *kite.Record) bool {
		if r.Seq > w.Head || ctx.Err() != nil {
			return false
		}
		if l.full = len(l.page.Delayed) == l.filter.Limit || l.looks == delayedLooks; l.full {
			l.page.Next = fmt.Sprintf("%d-%d", l.minute, l.place)
			return false
		}
		l.place = r.Seq
		l.looks++
		if !w.Gone.Contains(r.Seq) && (l.filter.Topic == "" || l.filter.Topic == r.Topic) {
			l.page.Delayed = append(l.page.Delayed, newPostponed(r))
			elsewhere = append(elsewhere, r.Ref)
		}
		return true
	})
	if err != nil {
		return err
	}
	for i, ref := range elsewhere { // no reading inside of reading
		if err := l.server.complete(&l.page.Delayed[begin+i], ref); err != nil {
			return err
		}
	}
	l.minute, l.place = w.Minute+1, 0
	return ctx.Err()
}

func newPostponed(r *kite.Record) operate.Postponed {
	return operate.Postponed{
		ID: r.ID.String(), Topic: r.Topic, Type: string(r.Type), Group: string(r.Group), State: operate.Waits,
		DueMs: r.DueMs, DecidedMs: r.TimeMs, ExpiresMs: r.ExpiresMs,
	}
}

// complete adds what only the message itself says, when it was prepared before and lies at ref.
func (s *Server) complete(p *operate.Postponed, ref kite.Position) error {
	if ref == 0 {
		return nil
	}
	return s.journal.Load(ref, func(r *kite.Record) { p.Type, p.Group, p.ExpiresMs = string(r.Type), string(r.Group), r.ExpiresMs })
}

// Cancel implements admin.Operator.
func (s *Server) Cancel(ctx context.Context, id kite.MessageID, note kite.Note) (p operate.Postponed, err error) {
	order := kite.Order{Action: kite.ActionCancel, Note: note}
	done, err := s.lane.Do(ctx, kite.Item{Record: kite.Record{Kind: kite.KindOrder, ID: id, Body: kite.AppendOrder(nil, &order)}})
	switch {
	case err != nil:
		return p, err
	case done.Verdict == kite.TxUnknown:
		return p, kite.Errorf(kite.TxUnknown, "message %s: none of that id waits for its time here", id)
	case done.Verdict == kite.TxConflict:
		return p, kite.Errorf(kite.TxConflict, "message %s: its time has come: it was stored as seq %d at %s",
			id, done.Seq, time.UnixMilli(done.TimeMs).UTC().Format(time.RFC3339))
	case done.Verdict != kite.OK:
		return p, kite.Errorf(done.Verdict, "message %s: %s: see the broker's log", id, done.Verdict)
	}
	facts, err := s.facts(id)
	if err != nil {
		return p, err
	}
	p = operate.Postponed{ID: id.String(), State: operate.Cancelled, Repeat: done.Repeat}
	for _, f := range slices.Backward(facts) {
		switch {
		case f.Kind == kite.KindOrder && f.order.Action == kite.ActionCancel && p.CancelledMs == 0:
			p.CancelledMs, p.By, p.Reason = f.TimeMs, f.order.By, f.order.Reason
		case f.Kind == kite.KindDelayed:
			q := newPostponed(&f.Record)
			q.State, q.CancelledMs, q.By, q.Reason, q.Repeat = p.State, p.CancelledMs, p.By, p.Reason, p.Repeat
			return q, s.complete(&q, f.Ref)
		}
	}
	return p, nil
}
