package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/kite"
)

func newSub(g *globals) *cobra.Command {
	var bind string
	var count int
	var nack, durable, broadcast bool
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
--order topic makes it wait for all earlier ones. Interrupt ends it.`,
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
			return subscribe(cmd.Context(), g, b, count, nack)
		}),
	}
	cmd.Flags().StringVar(&bind, "bind", "direct", "`KIND` of binding: direct, regx or fanout")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after `N` deliveries (default: never)")
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

// subscribe prints deliveries until there were count of them, or ctx ends.
func subscribe(ctx context.Context, g *globals, b client.Binding, count int, nack bool) (err error) {
	// One handler at a time: lines do not mix, and the count is exact.
	c, closeAll, err := g.dial(ctx, subscriberGroup, func(o *client.Options) { o.Concurrency = 1 })
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, closeAll()) }()
	ended := make(chan error, 1)
	seen, over := 0, false
	handle := func(_ context.Context, d *client.Delivery) error {
		if over {
			return errEnough
		}
		err := g.printDelivery(d)
		seen++
		if over = err != nil || seen == count; over {
			ended <- err
		}
		if err == nil && nack {
			err = errNacked
		}
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	if _, err := c.Subscribe(bounded, []client.Binding{b}, handle); err != nil {
		return err
	}
	if err := c.Ready(bounded, b.Topic); err != nil && ctx.Err() == nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done(): // interrupted: the way to end it
		return nil
	}
}
