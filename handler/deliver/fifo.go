package deliver

// fifo is a queue of steps: what is taken from its front gives its room back in time.
type fifo[T any] struct {
	items []T
	head  int
}

// fifoRoom is how many items' room an empty queue keeps: there may be one for each key.
const fifoRoom = 16

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) first() T { return q.items[q.head] }

// all returns what is queued; it stays the queue's.
func (q *fifo[T]) all() []T { return q.items[q.head:] }

func (q *fifo[T]) push(item T) { q.items = append(q.items, item) }

func (q *fifo[T]) pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none
	q.head++
	switch n := len(q.items); {
	case q.head == n && cap(q.items) > fifoRoom:
		*q = fifo[T]{}
	case q.head == n:
		q.items, q.head = q.items[:0], 0
	case q.head > fifoRoom && q.head > n/2:
		q.items = q.items[:copy(q.items, q.items[q.head:])]
		clear(q.items[len(q.items):n])
		q.head = 0
	}
	return item
}
