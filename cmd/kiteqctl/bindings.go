package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/registry"
)

func newBindings(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "bindings [TOPIC]...",
		Short: "List the bindings of the consumer groups",
		Long: `List what each group is bound to, and since when. A binding that cannot be understood is shown
as bad, with the reason: brokers leave it out. How far the groups are is told by groups.`,
		Example: `  kiteqctl bindings
  kiteqctl bindings trade -o json`,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return g.inspect(cmd.Context(), args, func(ctx context.Context, r directory, topics []string) error {
				bindings, err := first(ctx, topics, r, r.WatchBindings)
				if err != nil {
					return err
				}
				return g.printBindings(topics, bindings)
			})
		}),
	}
}

// bound is one binding, or one that is bad, as a line of bindings.
type bound struct {
	Group     string     `json:"group"`
	Topic     string     `json:"topic"`
	Bind      string     `json:"bind,omitempty"`
	Type      string     `json:"type,omitempty"`
	Durable   bool       `json:"durable"`
	Watermark int32      `json:"watermark"`
	Since     *time.Time `json:"since,omitempty"`
	Bad       string     `json:"bad,omitempty"`
}

func (b bound) text() string {
	since := "-"
	if b.Since != nil {
		since = b.Since.Format(time.RFC3339)
	}
	if b.Bad != "" {
		return fmt.Sprintf("%s\t%s\tbad\t%s\t-\t-\t%s", b.Group, b.Topic, b.Bad, since)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%v\t%d\t%s", b.Group, b.Topic, b.Bind, b.Type, b.Durable, b.Watermark, since)
}

func (g *globals) printBindings(topics []string, bindings registry.Bindings) error {
	var rows []bound
	for _, topic := range topics {
		for _, group := range bindings[topic] {
			var since *time.Time
			if group.SinceMs > 0 {
				since = moment(time.UnixMilli(group.SinceMs))
			}
			for _, b := range group.Bindings {
				rows = append(rows, bound{
					Group: group.Group, Topic: topic, Bind: b.Type.String(), Type: b.MessageType,
					Durable: b.Durable, Watermark: b.Watermark, Since: since,
				})
			}
			for _, bad := range group.Bad {
				rows = append(rows, bound{Group: group.Group, Topic: topic, Since: since, Bad: bad.Error()})
			}
		}
	}
	return g.table("GROUP\tTOPIC\tBIND\tTYPE\tDURABLE\tWATERMARK\tSINCE", len(rows), func(i int) (any, string) {
		return rows[i], rows[i].text()
	})
}
