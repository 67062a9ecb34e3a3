package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

func newDrain(g *globals) *cobra.Command {
	var by signature
	var cancel bool
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Take a broker out of service while its deliveries go on, or back into it",
		Long: `The broker leaves the registry, so that publishers go to others. After its drain_timeout it refuses publishes.
Deliveries go on to whoever stays connected; what nobody takes, and what is undecided, waits in its journal for the
next start. Nothing of it is kept: a restarted broker serves.

With --wait it is looked at once a second until publishes are refused and nothing is in flight, and either all that
connected groups want is settled or everybody has gone. Then it can be stopped. The exit code is 1 when that takes
longer; the broker drains on.`,
		Example: `  kiteqctl drain --broker 10.0.0.7:13800 --wait 5m --reason 'new disk'
  kiteqctl drain --broker 10.0.0.7:13800 --cancel`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			d, err := g.one(ctx, "")
			if err != nil {
				return err
			}
			order := "/broker/drain"
			if cancel {
				order = "/broker/serve"
			}
			row, err := g.askBroker(ctx, d, "POST", order, by.note())
			if err == nil && patience > 0 && !cancel {
				row, err = g.awaitDrained(ctx, d, row, patience)
			}
			if row.Entry == nil {
				return err
			}
			return listed(err, 1, func() error { return g.printBrokers([]asked{row}) })
		}),
	}
	by.register(cmd, g.user)
	cmd.Flags().BoolVar(&cancel, "cancel", false, "announce the broker again, and take publishes")
	cmd.Flags().DurationVar(&patience, "wait", 0, "how long to wait until it can be stopped (default: not)")
	return cmd
}

// drained tells whether the broker can be stopped and leaves nobody waiting.
func drained(b *operate.Status) bool {
	return b.Drain != nil && b.Drain.Refusing && b.InFlight == 0 && (b.Unsettled == 0 || b.Connections == 0)
}

// awaitDrained looks until the broker is drained, and shows on a terminal how far it is.
func (g *globals) awaitDrained(ctx context.Context, d desk, row asked, patience time.Duration) (asked, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	whole := row.Entry.Unsettled
	bar := g.meter(whole, "messages", false)
	defer bar.end()
	for !drained(row.Entry) {
		whole = max(whole, row.Entry.Unsettled)
		bar.set(whole-row.Entry.Unsettled, whole)
		if wait(ctx, time.Second); ctx.Err() != nil {
			return row, fmt.Errorf("not drained after %s: %d connections, %d deliveries in flight, %d messages unsettled", patience,
				row.Entry.Connections, row.Entry.InFlight, row.Entry.Unsettled)
		}
		now, err := g.askBroker(ctx, d, "GET", "/broker", nil)
		if err != nil {
			return row, err
		}
		row = now
	}
	return row, nil
}
