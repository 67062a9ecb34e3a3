package mysql

import (
	"context"
	"sync"
	"time"
)

// lifetime is the context of a Journal's writes. The lane has none to give: it waits in Append until the
// database is back, or somebody ends the lifetime. The zero value cannot be ended.
type lifetime struct {
	ended chan struct{}
	once  sync.Once
}

var _ context.Context = (*lifetime)(nil)

func (l *lifetime) end() { l.once.Do(func() { close(l.ended) }) }

// Deadline is none.
func (l *lifetime) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is closed by end.
func (l *lifetime) Done() <-chan struct{} { return l.ended }

// Err returns context.Canceled after end.
func (l *lifetime) Err() error {
	select {
	case <-l.ended:
		return context.Canceled
	default:
		return nil
	}
}

// Value is nil.
func (l *lifetime) Value(any) any { return nil }
