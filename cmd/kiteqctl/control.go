package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

func newPause(g *globals) *cobra.Command {
	return newControl(g, "pause", "Stop the deliveries of a topic to a group, until resume", `What is on its way is still answered. Publishers notice nothing: what waits is kept.`)
}

func newResume(g *globals) *cobra.Command {
	return newControl(g, "resume", "Let the deliveries of a topic to a group go on", `The group goes on where it stood.`)
}

func newControl(g *globals, order, short, long string) *cobra.Command {
	var by signature
	cmd := &cobra.Command{
		Use:     order + " TOPIC GROUP",
		Short:   short,
		Long:    long + "\nThe order goes to every broker of the topic.",
		Example: fmt.Sprintf("  kiteqctl %s trade s-books --reason 'the ledger is being moved'", order),
		Args:    names(0, "TOPIC", "GROUP"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return g.control(ctx, args, func(ask func(desk) error) error { return g.each(ctx, args[0], ask) }, order, by.note())
		}),
	}
	by.register(cmd, g.user)
	return cmd
}

func newSeek(g *globals) *cobra.Command {
	var by signature
	var seq uint64
	var since string
	cmd := &cobra.Command{
		Use:   "seek TOPIC GROUP",
		Short: "Make a group go on at another message of a topic",
		Long: `Make the group go on with the message --seq, or with the first that was stored at --time or later: it gets
again what lies behind that, and what lies before it no more. With --time the order goes to every broker of the
topic; sequence numbers mean something to one broker only.`,
		Example: `  kiteqctl seek trade s-books --time 2026-01-02T15:00:00Z --reason 'books were restored'
  kiteqctl seek trade s-books --seq 17 --broker 10.0.0.7:13800`,
		Args: names(0, "TOPIC", "GROUP"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if (seq == 0) == (since == "") {
				return usage("give --seq or --time, and one of them only")
			}
			ctx := cmd.Context()
			to := func(ask func(desk) error) error { return g.each(ctx, args[0], ask) }
			if seq > 0 {
				to = func(ask func(desk) error) error {
					d, err := g.one(ctx, args[0])
					if err != nil {
						return err
					}
					return ask(d)
				}
			}
			return g.control(ctx, args, to, "seek", operate.Seek{Note: by.note(), Seq: seq, Time: since})
		}),
	}
	by.register(cmd, g.user)
	cmd.Flags().Uint64Var(&seq, "seq", 0, "`NUMBER` of the next message")
	cmd.Flags().StringVar(&since, "time", "", "`TIME` of the next message: RFC 3339 or Unix milliseconds")
	return cmd
}

// control gives an order about the group args[1] on the topic args[0] and prints how it stands then.
func (g *globals) control(ctx context.Context, args []string, to func(func(desk) error) error, order string, body any) error {
	var rows []placed[operate.Group]
	err := to(func(d desk) error {
		var group operate.Group
		err := g.call(ctx, d, "POST", "/groups"+path(args[0], args[1], order), body, &group)
		if err == nil {
			rows = append(rows, placed[operate.Group]{d.base, group})
		}
		return err
	})
	return listed(err, len(rows), func() error { return g.printPlaces(rows) })
}

func (g *globals) printPlaces(rows []placed[operate.Group]) error {
	return g.table("TOPIC\tGROUP\tMEMBERS\tNEXT\tHEAD\tUNSETTLED\tIN-FLIGHT\tARMED\tDEAD\tPAUSED\tBROKER", len(rows), func(i int) (any, string) {
		f := rows[i].Entry
		return rows[i], fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%s", f.Topic, f.Group, len(f.Members),
			f.Next, f.Head, f.Unsettled, f.InFlight, f.Armed, f.Dead, f.Paused, rows[i].Broker)
	})
}
