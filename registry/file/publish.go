package file

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
)

// Nothing is published into a file: who may write it decides what is in it. What would publish checks its
// arguments, so that a mistake shows with every registry, and says where the file does not agree. For a
// broker that is a warning, since the one that clients are sent to may be a proxy before it. For a
// consumer it is an error, since without its bindings it would wait in vain.

// ErrNotInFile is what Bind and Unbind return, wrapped, when the file must be edited.
var ErrNotInFile = &kite.Error{Code: kite.Invalid, Err: errors.New("the file says otherwise, and it is never written by us")}

// announcement is what was announced last.
type announcement struct {
	addr   string // "" when nothing is
	topics []string
}

// CreateTopics implements registry.Registry. It only checks the names: a topic is there once a broker or
// a binding names it.
func (r *Registry) CreateTopics(ctx context.Context, topics []string) error {
	_, err := checkTopics(topics)
	return errors.Join(err, ctx.Err(), r.open())
}

// Announce implements registry.Registry. It only checks its arguments, and logs a warning, now and
// whenever the file changes, when the file does not list addr for one of the topics. It waits for nothing.
func (r *Registry) Announce(_ context.Context, addr string, topics []string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || !at.Addr().Is4() || at.Addr().IsUnspecified() || at.Port() == 0 {
		return kite.Errorf(kite.Invalid, "announced address %q: use a numeric IPv4 ip:port that clients reach, like 10.0.0.1:13800", addr)
	}
	topics, err = checkTopics(topics)
	if err := errors.Join(err, r.open()); err != nil {
		return err
	}
	a := announcement{addr, topics}
	r.mu.Lock()
	r.announced = a
	p := r.shown.picture
	r.mu.Unlock()
	r.compare(a, p)
	return nil
}

// compare warns when clients that read the file do not find the announced broker.
func (r *Registry) compare(a announcement, p *picture) {
	if missing := p.unserved(a.addr, a.topics); a.addr != "" && len(missing) > 0 {
		r.log.Warn("registry file does not list this broker, clients that read it do not come",
			"path", r.o.Path, "addr", a.addr, "topics", missing,
			"hint", fmt.Sprintf("below brokers: - {address: %q, topics: [%s]}", a.addr, strings.Join(missing, ", ")))
	}
}

// Withdraw implements registry.Registry. The file is not changed.
func (r *Registry) Withdraw(context.Context) error {
	if err := r.open(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.announced = announcement{}
	return nil
}

// AddProducer implements registry.Registry. It only checks its arguments.
func (r *Registry) AddProducer(ctx context.Context, topic, group, host string) error {
	var bad error
	if err := kite.CheckGroup(host); err != nil || host == "." || host == ".." {
		bad = kite.Errorf(kite.Invalid, "host %q: 1 to %d bytes without '/' and control characters are allowed", host, kite.MaxName)
	}
	return errors.Join(kite.CheckTopic(topic), kite.CheckGroup(group), bad, ctx.Err(), r.open())
}

// Bind implements registry.Registry. It returns nil when the file holds exactly these bindings of the
// group on their topics; otherwise an ErrNotInFile that names the lines to add and to remove. What was read
// last counts: after an edit, Reload.
func (r *Registry) Bind(ctx context.Context, bindings []kite.Binding) error {
	byTopic := map[string][]kite.Binding{}
	for _, b := range bindings {
		if err := b.Validate(); err != nil {
			return err
		}
		if b.Group != bindings[0].Group {
			return kite.Errorf(kite.Invalid, "bind group %q: a binding is of group %q, bind each group by itself", bindings[0].Group, b.Group)
		}
		b.Version = kite.BindingVersion // the file has none
		byTopic[b.Topic] = append(byTopic[b.Topic], b)
	}
	if err := errors.Join(ctx.Err(), r.open()); err != nil {
		return err
	}
	p := r.current().picture
	var add, remove []kite.Binding
	for topic, want := range byTopic {
		var have []kite.Binding
		if g := p.find(topic, bindings[0].Group); g != nil {
			have = g.Bindings
		}
		missing, extra := difference(want, have)
		add, remove = append(add, missing...), append(remove, extra...)
	}
	if len(add)+len(remove) == 0 {
		return nil
	}
	return kite.Errorf(kite.Invalid, "bind group %s: %s: %w%s%s", bindings[0].Group, r.o.Path, ErrNotInFile,
		edit("add below bindings", add), edit("remove", remove))
}

// Unbind implements registry.Registry. It returns nil when the file binds the group on the topic not at
// all; otherwise an ErrNotInFile that names the lines to remove.
func (r *Registry) Unbind(ctx context.Context, topic, group string) error {
	if err := errors.Join(kite.CheckTopic(topic), kite.CheckGroup(group), ctx.Err(), r.open()); err != nil {
		return err
	}
	g := r.current().find(topic, group)
	if g == nil {
		return nil
	}
	return kite.Errorf(kite.Invalid, "unbind group %s from topic %s: %s: %w%s", group, topic, r.o.Path, ErrNotInFile,
		edit("remove", g.Bindings))
}

// edit writes bindings as lines of the file.
func edit(what string, bindings []kite.Binding) string {
	if len(bindings) == 0 {
		return ""
	}
	lines := make([]string, 0, len(bindings))
	for _, b := range bindings {
		line := fmt.Sprintf("\n  - {groupIds: [%q], topic: %q, messageType: %q, bindType: %s, watermark: %d, persistent: %t",
			b.Group, b.Topic, b.MessageType, b.Type, b.Watermark, b.Durable)
		if b.Order != kite.OrderNone {
			line += fmt.Sprintf(", order: %s", b.Order)
		}
		if b.OrderKey != "" {
			line += fmt.Sprintf(", orderKey: %q", b.OrderKey)
		}
		if b.Broadcast {
			line += ", broadcast: true"
		}
		lines = append(lines, line+"}")
	}
	slices.Sort(lines) // bindings come from a map
	return "; " + what + ":" + strings.Join(lines, "")
}

// checkTopics returns the topics sorted, each once, or the error of every bad one.
func checkTopics(topics []string) ([]string, error) {
	var bad []error
	for _, topic := range topics {
		bad = append(bad, kite.CheckTopic(topic))
	}
	return slices.Compact(slices.Sorted(slices.Values(topics))), errors.Join(bad...)
}
