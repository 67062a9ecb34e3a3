package file

import (
	"context"
	"fmt"

	"github.com/kiteq/kiteq/registry"
)

// WatchBindings implements registry.Registry. Every topic asked for is in the picture. SinceMs is 0 for
// groups that were in the file when it was opened; for those that came later it is when the file was last
// read without them.
func (r *Registry) WatchBindings(ctx context.Context, topics []string, changed func(registry.Bindings)) error {
	topics, err := checkTopics(topics)
	if err != nil {
		return err
	}
	return watch(ctx, r, "watch bindings", func(p *picture) registry.Bindings { return p.bindingsOf(topics) }, sameBindings, changed)
}

// WatchBrokers implements registry.Registry. Every topic asked for is in the picture.
func (r *Registry) WatchBrokers(ctx context.Context, topics []string, changed func(registry.Brokers)) error {
	topics, err := checkTopics(topics)
	if err != nil {
		return err
	}
	return watch(ctx, r, "watch brokers", func(p *picture) registry.Brokers { return p.brokersOf(topics) }, sameBrokers, changed)
}

// watch reports a part of each picture that differs from the part reported before. Pictures that come
// while the receiver is busy become one.
func watch[P any](ctx context.Context, r *Registry, op string, part func(*picture) P, same func(a, b P) bool, changed func(P)) error {
	var reported P
	for first := true; ; first = false {
		if ctx.Err() != nil {
			return nil
		}
		if err := r.open(); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
		s := r.current()
		if now := part(s.picture); first || !same(reported, now) {
			reported = now
			changed(now)
		}
		select {
		case <-s.replaced:
		case <-r.closing:
		case <-ctx.Done():
		}
	}
}
