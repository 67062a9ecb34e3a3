package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/registry"
)

func newTopics(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "topics [TOPIC]...",
		Short: "List topics and the brokers that serve them",
		Example: `  kiteqctl topics
  kiteqctl topics trade -o json`,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return g.inspect(cmd.Context(), args, func(ctx context.Context, r directory, topics []string) error {
				brokers, err := first(ctx, topics, r, r.WatchBrokers)
				if err != nil {
					return err
				}
				return g.printTopics(topics, brokers)
			})
		}),
	}
}

// inspect opens the registry and calls look with the topics, all of them when none are named.
func (g *globals) inspect(ctx context.Context, topics []string, look func(context.Context, directory, []string) error) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	r, stop, err := g.registry(ctx, g.zkhost)
	if err != nil {
		return err
	}
	defer stop()
	if len(topics) == 0 {
		if topics, err = r.Topics(ctx); err != nil {
			return err
		}
	}
	topics = slices.Clone(topics)
	slices.Sort(topics)
	return look(ctx, r, slices.Compact(topics))
}

// first returns the first picture that a watch gives.
func first[T any](ctx context.Context, topics []string, r directory, watch func(context.Context, []string, func(T)) error) (T, error) {
	var picture T
	if len(topics) == 0 {
		return picture, nil
	}
	watching, enough := context.WithCancel(ctx)
	defer enough()
	seen := false
	err := watch(watching, topics, func(now T) {
		if !seen {
			picture, seen = now, true
			enough()
		}
	})
	switch {
	case seen:
		return picture, nil
	case err != nil:
		return picture, err
	}
	return picture, fmt.Errorf("the registry gave no answer: %w", errors.Join(r.Ready(), ctx.Err()))
}

func (g *globals) printTopics(topics []string, brokers registry.Brokers) error {
	type row struct {
		Topic   string   `json:"topic"`
		Brokers []string `json:"brokers"`
	}
	return g.table("TOPIC\tBROKERS", len(topics), func(i int) (any, string) {
		r := row{topics[i], append([]string{}, brokers[topics[i]]...)}
		if len(r.Brokers) == 0 {
			return r, r.Topic + "\t(none)"
		}
		return r, r.Topic + "\t" + strings.Join(r.Brokers, ",")
	})
}
