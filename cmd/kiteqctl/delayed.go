package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

func newDelayed(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delayed",
		Short: "List the messages that wait for their time, or cancel one",
		Long: `A message with a delay is stored, or its transaction committed, at once, and delivered from its time on. Until
then it can be cancelled: it is never delivered, and its publisher is not told.`,
		Example: `  kiteqctl delayed list --topic trade
  kiteqctl delayed cancel 0123456789abcdef0123456789abcdef --reason 'sold out'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("delayed needs one of list, cancel: see kiteqctl delayed --help")
		},
	}
	cmd.AddCommand(newDelayedList(g), newDelayedCancel(g))
	return cmd
}

func newDelayedList(g *globals) *cobra.Command {
	var topic string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the messages that wait for their time, by the minute in which they are due",
		Example: "  kiteqctl delayed list --topic trade -o json",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var rows []placed[operate.Postponed]
			err := g.each(ctx, topic, func(d desk) error {
				return g.pages(func(after string) (string, error) {
					var page operate.Delays
					err := g.call(ctx, d, "GET", "/delayed?"+query("topic", topic, "after", after, "limit", strconv.Itoa(operate.MaxPage)), nil, &page)
					for _, p := range page.Delayed {
						rows = append(rows, placed[operate.Postponed]{d.base, p})
					}
					return page.Next, err
				})
			})
			return listed(err, len(rows), func() error { return g.printDelayed(rows) })
		}),
	}
	cmd.Flags().StringVar(&topic, "topic", "", "only those of this `TOPIC`")
	return cmd
}

func (g *globals) printDelayed(rows []placed[operate.Postponed]) error {
	return g.table("ID\tSTATE\tTOPIC\tTYPE\tGROUP\tDUE\tCANCELLED\tBROKER", len(rows), func(i int) (any, string) {
		p := rows[i].Entry
		cancelled := orDash(localTime(p.CancelledMs, ""))
		if p.By != "" {
			cancelled += " by " + p.By
		}
		if p.Reason != "" {
			cancelled += ": " + p.Reason
		}
		return rows[i], fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", p.ID, p.State, p.Topic, orDash(p.Type), orDash(p.Group),
			localTime(p.DueMs, "-"), cancelled, rows[i].Broker)
	})
}

func newDelayedCancel(g *globals) *cobra.Command {
	var by signature
	cmd := &cobra.Command{
		Use:     "cancel ID",
		Short:   "End the wait of a message: it is never delivered",
		Long:    "The broker that has the message notes the order with the name and the --reason, which is required.",
		Example: "  kiteqctl delayed cancel 0123456789abcdef0123456789abcdef --reason 'sold out'",
		Args:    names(0, "ID"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if by.reason == "" {
				return usage("--reason is missing: say why, it is noted with the order")
			}
			return g.cancelDelayed(cmd.Context(), args[0], by.note())
		}),
	}
	by.register(cmd, g.user)
	return cmd
}

func (g *globals) cancelDelayed(ctx context.Context, id string, note operate.Note) error {
	var rows []placed[operate.Postponed]
	err := g.each(ctx, "", func(d desk) error {
		var p operate.Postponed
		err := g.call(ctx, d, "POST", "/delayed"+path(id, "cancel"), note, &p)
		if err == nil {
			rows = append(rows, placed[operate.Postponed]{d.base, p})
		}
		return err
	})
	return listed(err, len(rows), func() error { return g.printDelayed(rows) })
}
