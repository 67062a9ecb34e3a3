package clienttest

import (
	"context"
	"sync"
)

// Queue holds what a broker received, in order, until a test takes it.
type Queue[T any] struct {
	mu    sync.Mutex
	items []T
	more  chan struct{}
}

// Next takes the oldest element, and waits for one until ctx ends.
func (q *Queue[T]) Next(ctx context.Context) (T, error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			defer q.mu.Unlock()
			item := q.items[0]
			q.items = q.items[1:]
			return item, nil
		}
		if q.more == nil {
			q.more = make(chan struct{})
		}
		more := q.more
		q.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
}

// Len returns how many elements wait.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// Put adds an element.
func (q *Queue[T]) Put(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, item)
	if q.more != nil {
		close(q.more)
		q.more = nil
	}
}
