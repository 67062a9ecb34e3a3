package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/kite"
)

func newSub(g *globals) *cobra.Command {
	var bind string
	var count int
	var rate float64
	var nack, durable, broadcast, quiet bool
	var order, orderKey string
	cmd := &cobra.Command{
		Use:   "sub TOPIC [TYPE-OR-PATTERN]",
		Short: "Bind a group and print what it is delivered",
		Long: `Bind --group to message types of TOPIC and print a line for each delivery: topic, type, id, body.

--bind says how TYPE-OR-PATTERN is meant:
  direct   exactly this type
  regx     every type in which this RE2 pattern is found; anchor it with ^ and $
  fanout   every type; leave TYPE-OR-PATTERN out

The binding replaces what the group had on the topic, and it stays: while nobody of the group is
connected, brokers keep its messages for it, unless --durable=false. Of the members of a group one
gets each message; take another --group to get a copy, or let the group --broadcast.

--order key makes a message wait for the earlier ones with the same value of the property
kiteq-key, or of that which --order-key names; a message without it is a dead letter.
--order topic makes it wait for all earlier ones. Interrupt ends it.

--rate bounds how many are taken a second: whoever takes less than one has them delivered again, since its answers
are late. With --quiet only the number is told, at the end. A progress bar is shown on a terminal that does not show
the deliveries.`,
		Example: `  kiteqctl sub trade pay-succ --group s-books
  kiteqctl sub trade '^pay-' --group s-books --bind regx -n 10
  kiteqctl sub trade --bind fanout --group s-audit -o json
  kiteqctl sub trade pay-succ --group s-books --order key --order-key account
  kiteqctl sub trade pay-succ --group s-books --nack    # see how a broker delivers again`,
		Args: names(1, "TOPIC", "TYPE-OR-PATTERN"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			b, err := binding(bind, args)
			if err != nil {
				return err
			}
			if count < 0 {
				return usage("--count %d: give 1 or more, or nothing", count)
			}
			b.Durable, b.Order, b.OrderKey, b.Broadcast = durable, kite.Ordering(order), orderKey, broadcast
			pace, err := newPace(rate)
			if err != nil {
				return err
			}
			s := subscriber{globals: g, count: count, nack: nack, quiet: quiet, pace: pace, ended: make(chan error, 1)}
			s.meter = g.meter(int64(cmp.Or(count, -1)), "messages", !quiet)
			return s.subscribe(cmd.Context(), b)
		}),
	}
	cmd.Flags().StringVar(&bind, "bind", "direct", "`KIND` of binding: direct, regx or fanout")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after `N` deliveries (default: never)")
	cmd.Flags().Float64Var(&rate, "rate", 0, "take at most `N` deliveries a second (default: no limit)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no deliveries, only how many there were")
	cmd.Flags().BoolVar(&nack, "nack", false, "refuse every delivery, so that it comes again")
	cmd.Flags().BoolVar(&durable, "durable", true, "let brokers keep messages while nobody of the group is connected")
	cmd.Flags().StringVar(&order, "order", "", "let messages wait for earlier ones: `HOW` is key or topic (default: none waits)")
	cmd.Flags().StringVar(&orderKey, "order-key", "", "message `PROPERTY` of --order key (default: kiteq-key)")
	cmd.Flags().BoolVar(&broadcast, "broadcast", false, "let every member of the group get each message")
	return cmd
}

func binding(kind string, args []string) (client.Binding, error) {
	topic := args[0]
	switch {
	case kind == "fanout" && len(args) == 1:
		return client.Fanout(topic), nil
	case kind == "fanout":
		return client.Binding{}, usage("--bind fanout takes every type: leave %q out", args[1])
	case kind != "direct" && kind != "regx":
		return client.Binding{}, usage("--bind %q: give direct, regx or fanout", kind)
	case len(args) == 1:
		return client.Binding{}, usage("--bind %s needs a TYPE-OR-PATTERN after the topic", kind)
	case kind == "regx":
		return client.Regx(topic, args[1]), nil
	}
	return client.Direct(topic, args[1]), nil
}

// errNacked and errEnough are the feedback that the broker gets.
var (
	errNacked = errors.New("kiteqctl was told to refuse")
	errEnough = errors.New("kiteqctl has had its count")
)

// subscriber prints deliveries until there were count of them.
type subscriber struct {
	*globals
	count       int // 0: no end
	nack, quiet bool
	pace        *pace
	meter       meter

	// Of handle, which runs once at a time: lines do not mix, and the count is exact.
	seen  int
	over  bool
	ended chan error
}

func (s *subscriber) handle(ctx context.Context, d *client.Delivery) error {
	if s.over {
		return errEnough
	}
	err := s.pace.wait(ctx)
	if err == nil && !s.quiet {
		err = s.printDelivery(d)
	}
	s.meter.add(1)
	s.seen++
	if s.over = err != nil || s.seen == s.count; s.over {
		s.ended <- err
	}
	if err == nil && s.nack {
		err = errNacked
	}
	return err
}

// subscribe binds, and returns when there were enough, or ctx ends.
func (s *subscriber) subscribe(ctx context.Context, b client.Binding) (err error) {
	c, closeAll, err := s.dial(ctx, subscriberGroup, func(o *client.Options) { o.Concurrency = 1 })
	if err != nil {
		return err
	}
	began := time.Now()
	defer func() {
		err = firstError(err, closeAll()) // afterwards nothing is handled
		s.meter.end()
		if s.quiet {
			err = firstError(err, s.tellCount("delivered", int64(s.seen), time.Since(began)))
		}
	}()
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := c.Subscribe(bounded, []client.Binding{b}, s.handle); err != nil {
		return err
	}
	if err := c.Ready(bounded, b.Topic); err != nil && ctx.Err() == nil {
		return err
	}
	select {
	case err := <-s.ended:
		return err
	case <-ctx.Done(): // interrupted: the way to end it
		return nil
	}
}
