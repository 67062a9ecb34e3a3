package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

func newGroups(g *globals) *cobra.Command {
	var apart bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:     "groups [TOPIC]",
		Aliases: []string{"flows"},
		Short:   "List how far the consumer groups are: members, lag, in flight, rates",
		Long: `List each topic and group, added up over all brokers:

  MEMBERS    connected, the most that one broker has
  LAG        messages that the group has not come to
  UNSETTLED  those, and what is in flight or armed
  BEHIND     age of the oldest unsettled message
  IN-FLIGHT  sent and not answered
  ARMED      failed, to be sent again
  DEAD       dead letters that nobody has discarded
  OUT/S      deliveries a second, every attempt, during --interval
  DONE/S     messages settled a second
  STATE      ok, or why nothing moves: paused, breaker, offline since when, unbound

--apart lists every broker by itself, with the next and the newest sequence number, which seek needs.`,
		Example: `  kiteqctl groups
  kiteqctl groups trade --group s-books -o json
  kiteqctl groups trade --apart`,
		Args: names(1, "TOPIC"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			topic := strings.Join(args, "")
			switch {
			case interval < 0 || interval > maxInterval:
				return usage("--interval %s: give 0 to %s", interval, maxInterval)
			case apart:
				rows, err := g.groups(ctx, topic)
				return listed(err, len(rows), func() error { return g.printPlaces(rows) })
			}
			rows, err := g.merged(ctx, topic, interval)
			return listed(err, len(rows), func() error { return g.printGroups(rows) })
		}),
	}
	cmd.Flags().BoolVar(&apart, "apart", false, "a line for each broker, without rates")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how long to count for the rates; 0: none are shown")
	return cmd
}

// maxInterval bounds for how long rates are counted.
const maxInterval = time.Hour

// groups asks every broker of the topic, "" meaning all.
func (g *globals) groups(ctx context.Context, topic string) (rows []placed[operate.Group], err error) {
	err = g.each(ctx, topic, func(d desk) error {
		var all operate.Groups
		err := g.call(ctx, d, "GET", "/groups?"+query("topic", topic, "group", g.group), nil, &all)
		for _, group := range all.Groups {
			rows = append(rows, placed[operate.Group]{d.base, group})
		}
		return err
	})
	return rows, err
}

// whole is one topic on its way to one group, over all brokers, as JSON.
type whole struct {
	Topic   string `json:"topic"`
	Group   string `json:"group"`
	Bound   bool   `json:"bound"`
	Durable bool   `json:"durable"`
	Members int    `json:"members"` // the most that one broker has: each member is connected to all
	Lag     int64  `json:"lag"`
	// Unsettled and the counts below are sums.
	Unsettled int64 `json:"unsettled"`
	OldestMs  int64 `json:"oldest_ms,omitempty"` // when the oldest unsettled message was stored, Unix ms
	// BehindMs is its age by this host's clock.
	BehindMs int64 `json:"behind_ms"`
	InFlight int   `json:"in_flight"`
	Armed    int   `json:"armed"`
	Dead     int64 `json:"dead"`
	// Paused and BreakerOpen are true when they are so at some broker.
	Paused      bool  `json:"paused"`
	BreakerOpen bool  `json:"breaker_open"`
	OfflineMs   int64 `json:"offline_ms,omitempty"` // since when nobody of it is connected anywhere, Unix ms
	// The rates are absent when nothing was counted.
	DeliveredPerS *float64 `json:"delivered_per_s,omitempty"`
	SettledPerS   *float64 `json:"settled_per_s,omitempty"`

	Brokers []placed[operate.Group] `json:"brokers"`
}

// merged adds up what the brokers say, and looks a second time for the rates.
func (g *globals) merged(ctx context.Context, topic string, interval time.Duration) ([]*whole, error) {
	before, err := g.groups(ctx, topic)
	began := time.Now()
	if err != nil || interval == 0 {
		return merge(before, nil, 0, time.Now()), err
	}
	wait(ctx, interval)
	after, err := g.groups(ctx, topic)
	now := time.Now()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return merge(after, before, now.Sub(began), now), err
}

// merge adds up rows, with rates when before has what the same brokers said elapsed ago.
func merge(rows, before []placed[operate.Group], elapsed time.Duration, now time.Time) []*whole {
	type place struct{ broker, topic, group string }
	earlier := map[place]operate.Group{}
	for _, r := range before {
		earlier[place{r.Broker, r.Entry.Topic, r.Entry.Group}] = r.Entry
	}
	found := map[[2]string]*whole{}
	for _, r := range rows {
		key := [2]string{r.Entry.Topic, r.Entry.Group}
		w := found[key]
		if w == nil {
			w = &whole{Topic: r.Entry.Topic, Group: r.Entry.Group, OfflineMs: r.Entry.OfflineMs}
			found[key] = w
		}
		w.add(r)
		if e, ok := earlier[place{r.Broker, r.Entry.Topic, r.Entry.Group}]; ok {
			w.rate(&r.Entry, &e, elapsed)
		}
	}
	all := make([]*whole, 0, len(found))
	for _, w := range found {
		if w.OldestMs > 0 {
			w.BehindMs = max(now.UnixMilli()-w.OldestMs, 0)
		}
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *whole) int { return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group)) })
	return all
}

func (w *whole) add(r placed[operate.Group]) {
	e := &r.Entry
	w.Brokers = append(w.Brokers, r)
	w.Bound, w.Durable = w.Bound || e.Bound, w.Durable || e.Durable
	w.Paused, w.BreakerOpen = w.Paused || e.Paused, w.BreakerOpen || e.BreakerOpen
	w.Members = max(w.Members, len(e.Members))
	w.Lag, w.Unsettled, w.Dead = w.Lag+e.Lag, w.Unsettled+e.Unsettled, w.Dead+e.Dead
	w.InFlight, w.Armed = w.InFlight+e.InFlight, w.Armed+e.Armed
	if e.OldestMs > 0 && (w.OldestMs == 0 || e.OldestMs < w.OldestMs) {
		w.OldestMs = e.OldestMs
	}
	if w.OfflineMs = max(w.OfflineMs, e.OfflineMs); w.Members > 0 {
		w.OfflineMs = 0
	}
}

// rate adds what one broker did between two looks: messages that came and are not unsettled were settled. A broker
// that started meanwhile counts from 0.
func (w *whole) rate(now, before *operate.Group, elapsed time.Duration) {
	plus := func(sum **float64, n int64) {
		if *sum == nil {
			*sum = new(float64)
		}
		**sum += float64(max(n, 0)) / elapsed.Seconds()
	}
	delivered := now.Delivered
	if delivered >= before.Delivered {
		delivered -= before.Delivered
	}
	plus(&w.DeliveredPerS, delivered)
	plus(&w.SettledPerS, int64(now.Head)-int64(before.Head)-(now.Unsettled-before.Unsettled))
}

// state says what an operator should know, or ok.
func (w *whole) state() string {
	var parts []string
	if !w.Bound {
		parts = append(parts, "unbound")
	}
	if w.Paused {
		parts = append(parts, "paused")
	}
	if w.BreakerOpen {
		parts = append(parts, "breaker")
	}
	if w.OfflineMs > 0 {
		parts = append(parts, "offline since "+localTime(w.OfflineMs, ""))
	}
	return cmp.Or(strings.Join(parts, ", "), "ok")
}

func (g *globals) printGroups(rows []*whole) error {
	perSecond := func(rate *float64) string {
		if rate == nil {
			return "-"
		}
		return fmt.Sprintf("%.1f", *rate)
	}
	head := "TOPIC\tGROUP\tMEMBERS\tLAG\tUNSETTLED\tBEHIND\tIN-FLIGHT\tARMED\tDEAD\tOUT/S\tDONE/S\tSTATE"
	return g.table(head, len(rows), func(i int) (any, string) {
		w := rows[i]
		behind := "-"
		if w.OldestMs > 0 {
			behind = (time.Duration(w.BehindMs) * time.Millisecond).Round(100 * time.Millisecond).String()
		}
		return w, fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t%s", w.Topic, w.Group, w.Members, w.Lag, w.Unsettled,
			behind, w.InFlight, w.Armed, w.Dead, perSecond(w.DeliveredPerS), perSecond(w.SettledPerS), w.state())
	})
}
