package server

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Groups implements admin.Operator. It waits for the flows and the lane, until ctx ends.
func (s *Server) Groups(ctx context.Context, f operate.Filter) (operate.Groups, error) {
	all := operate.Groups{Groups: []operate.Group{}}
	stats, err := s.dispatcher.Stats(ctx)
	if err != nil {
		return all, err
	}
	flows := map[[2]string]deliver.FlowStats{}
	for _, flow := range stats {
		flows[[2]string{flow.Topic, flow.Group}] = flow
	}
	for _, route := range s.exchange.Routes() { // bound a moment ago
		if key := [2]string{route.Topic, route.Group}; flows[key].Topic == "" {
			flows[key] = deliver.FlowStats{Topic: route.Topic, Group: route.Group, Bound: true, Durable: route.Durable()}
		}
	}
	standings, err := s.lane.Standings(ctx, f.Topic, f.Group)
	if err != nil {
		return all, err
	}
	stood := map[[2]string]*kite.Standing{}
	for _, standing := range standings {
		key := [2]string{standing.Topic, standing.Group}
		stood[key] = standing.Standing
		if flows[key].Topic == "" { // it was bound before the start
			flows[key] = deliver.FlowStats{Topic: standing.Topic, Group: standing.Group, Durable: true}
		}
	}
	for key, flow := range flows {
		if (f.Topic == "" || f.Topic == flow.Topic) && (f.Group == "" || f.Group == flow.Group) {
			all.Groups = append(all.Groups, s.group(&flow, stood[key]))
		}
	}
	for _, bad := range *s.bad.Load() {
		if (f.Topic == "" || f.Topic == bad.Topic) && (f.Group == "" || f.Group == bad.Group) {
			all.Bad = append(all.Bad, bad)
		}
	}
	slices.SortFunc(all.Groups, func(a, b operate.Group) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group))
	})
	return all, nil
}

func (s *Server) group(f *deliver.FlowStats, standing *kite.Standing) operate.Group {
	_, next := s.journal.Bounds(f.Topic)
	g := operate.Group{
		Topic: f.Topic, Group: f.Group, Bound: f.Bound, Durable: f.Durable, Members: []string{}, Head: uint64(next - 1),
		OldestMs: f.OldestMs, InFlight: f.InFlight, Armed: f.Armed, BreakerOpen: f.BreakerOpen, OfflineMs: f.OfflineMs,
		Delivered: f.Acquired + f.Flown,
	}
	for _, m := range s.directory.Members(f.Group) {
		g.Members = append(g.Members, m.Conn.RemoteAddr())
	}
	slices.Sort(g.Members)
	if f.Durable && f.Bound {
		g.Lag, g.Unsettled = f.Lag, f.Unsettled
	}
	if standing == nil {
		standing = &kite.Standing{}
	}
	g.Next, g.Paused = uint64(standing.Floor()), standing.Paused
	g.Dead = s.dead(f.Topic, f.Group, standing)
	return g
}

// dead counts the dead letters that nobody has discarded.
func (s *Server) dead(topic, group string, standing *kite.Standing) int64 {
	_, next := s.journal.Bounds(kite.DeadStream(topic, group))
	n := int64(next) - int64(standing.Letters.Floor())
	for _, r := range standing.Letters.Ranges() {
		n -= int64(r.To - r.From)
	}
	return max(n, 0)
}

// oneGroup returns the group on the topic, or an error that says that there is none.
func (s *Server) oneGroup(ctx context.Context, topic, group string) (operate.Group, error) {
	all, err := s.Groups(ctx, operate.Filter{Topic: topic, Group: group})
	if err == nil && len(all.Groups) == 0 {
		err = kite.Errorf(kite.NotServed, "group %q on topic %q: it is not bound here, and never was", group, topic)
	}
	if err != nil {
		return operate.Group{}, err
	}
	return all.Groups[0], nil
}

// Pause implements admin.Operator.
func (s *Server) Pause(ctx context.Context, topic, group string, paused bool, note kite.Note) (operate.Group, error) {
	order := kite.Order{Action: kite.ActionResume, Note: note}
	if paused {
		order.Action = kite.ActionPause
	}
	return s.direct(ctx, topic, group, 0, order)
}

// Seek implements admin.Operator. The time is turned into a Seq here, so that the order means the same for
// ever.
func (s *Server) Seek(ctx context.Context, topic, group string, to operate.Seek, note kite.Note) (operate.Group, error) {
	first, next := s.journal.Bounds(topic)
	seq := kite.Seq(to.Seq)
	switch {
	case (to.Seq == 0) == (to.Time == ""):
		return operate.Group{}, kite.Errorf(kite.Invalid, "seek: give seq or time, and one of them only")
	case to.Time != "":
		ms, err := parseTime(to.Time)
		if err != nil {
			return operate.Group{}, err
		}
		seq = deliver.Since(s.journal, topic, next, ms)
	case seq < first || seq > next:
		return operate.Group{}, kite.Errorf(kite.Invalid, "seek to seq %d: topic %q has %d to %d, and %d is what comes next", seq, topic, first, next-1, next)
	}
	return s.direct(ctx, topic, group, seq, kite.Order{Action: kite.ActionSeek, Note: note})
}

// parseTime reads RFC 3339 or Unix milliseconds, as Unix ms.
func parseTime(text string) (int64, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 {
		return ms, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, kite.Errorf(kite.Invalid, "time %.64q: give RFC 3339, such as 2026-01-02T15:04:05Z, or Unix milliseconds", text)
	}
	return kite.UnixMs(t), nil
}

// direct gives the lane an order about a group's deliveries and returns how it stands then.
func (s *Server) direct(ctx context.Context, topic, group string, seq kite.Seq, order kite.Order) (operate.Group, error) {
	if _, err := s.oneGroup(ctx, topic, group); err != nil {
		return operate.Group{}, err
	}
	done, err := s.order(ctx, kite.Record{Topic: topic, Group: []byte(group), Seq: seq}, order)
	if err != nil {
		return operate.Group{}, err
	}
	g, err := s.oneGroup(ctx, topic, group)
	g.Repeat = done.Repeat
	return g, err
}

// order journals an order about what r names.
func (s *Server) order(ctx context.Context, r kite.Record, order kite.Order) (kite.Item, error) {
	r.Kind, r.Body = kite.KindOrder, kite.AppendOrder(nil, &order)
	done, err := s.lane.Do(ctx, kite.Item{Record: r, Outcome: kite.OutcomeCommitted})
	if err == nil && done.Verdict != kite.OK {
		err = kite.Errorf(done.Verdict, "%s of seq %d for group %q on topic %q: %s", order.Action, r.Seq, r.Group, r.Topic, done.Verdict)
	}
	return done, err
}
