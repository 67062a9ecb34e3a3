package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kiteq/kiteq/client"
)

// stage shows what happens, a line for each event, and remembers who was told what.
type stage struct {
	start time.Time

	mu      sync.Mutex
	parties []*party
	changed chan struct{} // closed and replaced when anybody was told something
}

// party is a service that was bound to some of the messages.
type party struct {
	name     string
	group    string
	bindings []client.Binding

	client *client.Client
	got    map[string]string // by message id
	want   map[string]string
}

func newStage(parties ...*party) *stage {
	s := &stage{start: time.Now(), parties: parties, changed: make(chan struct{})}
	for _, p := range parties {
		p.got, p.want = map[string]string{}, map[string]string{}
	}
	return s
}

// scene announces what comes next.
func (s *stage) scene(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Printf("\n%s\n", title)
}

// say shows what somebody does or sees.
func (s *stage) say(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sayLocked(who, format, args...)
}

func (s *stage) sayLocked(who, format string, args ...any) {
	fmt.Printf("  %6.2fs  %-12s %s\n", time.Since(s.start).Seconds(), who, fmt.Sprintf(format, args...))
}

// told is a party's handler.
func (s *stage) told(p *party) client.Handler {
	return func(_ context.Context, d *client.Delivery) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		again := ""
		if _, ok := p.got[d.ID]; ok {
			again = " (again, known by its id)"
		}
		p.got[d.ID] = d.Type + " " + string(d.Body)
		s.sayLocked(p.name, "is told %s: %s%s", d.Type, d.Body, again)
		close(s.changed)
		s.changed = make(chan struct{})
		return nil
	}
}

// expect enters what the named parties must be told, and waits until they were.
func (s *stage) expect(ctx context.Context, id, messageType, body string, names ...string) error {
	s.mu.Lock()
	for _, p := range s.parties {
		if slices.Contains(names, p.name) {
			p.want[id] = messageType + " " + body
		}
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		missing, changed := s.missingLocked(), s.changed
		s.mu.Unlock()
		if missing == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", missing, context.Cause(ctx))
		}
	}
}

// missingLocked names the first thing that somebody should have been told and was not, or is empty.
func (s *stage) missingLocked() string {
	for _, p := range s.parties {
		for id, what := range p.want {
			if p.got[id] != what {
				return fmt.Sprintf("%s was not told %q", p.name, what)
			}
		}
	}
	return ""
}

// compare shows for each party whether it was told exactly what it should have been.
func (s *stage) compare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Printf("\nWho was told what\n")
	var wrong []string
	for _, p := range s.parties {
		mark := "ok"
		for id, what := range p.want {
			if p.got[id] != what {
				mark = "WRONG"
				wrong = append(wrong, fmt.Sprintf("%s was not told %q", p.name, what))
			}
		}
		for id, what := range p.got {
			if _, ok := p.want[id]; !ok {
				mark = "WRONG"
				wrong = append(wrong, fmt.Sprintf("%s was told %q", p.name, what))
			}
		}
		var names []string
		for _, what := range p.got {
			_, body, _ := strings.Cut(what, " ")
			name, _, _ := strings.Cut(body, ",")
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Printf("  %-5s %-12s %d of %d: %s\n", mark, p.name, len(p.got), len(p.want), strings.Join(names, ", "))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("not everybody was told what they should be: %s", strings.Join(wrong, "; "))
	}
	return nil
}
