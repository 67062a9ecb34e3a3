package admin

import (
	"context"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Decision is what an operator orders about a transaction.
type Decision string

// The decisions.
const (
	Commit   Decision = "commit"
	Rollback Decision = "rollback"
	Check    Decision = "check" // ask its producer now; a parked one is asked about again
)

// Operator is what operators do to a broker and ask it. Errors are kite.Errors: their code becomes the status
// of the answer, their text names the value and what is allowed. What is ordered is durable when the call
// returns without an error, and the calls wait for that until ctx ends.
type Operator interface {
	Teller
	Transactor
	Timekeeper
	Director
	Undertaker
	Reader
	Caretaker
}

// Teller explains.
type Teller interface {
	Story(ctx context.Context, id kite.MessageID) (operate.Story, error)
}

// Transactor knows the transactions.
type Transactor interface {
	// Transactions lists the undecided.
	Transactions(ctx context.Context, f operate.Filter) (operate.Transactions, error)
	Transaction(ctx context.Context, id kite.MessageID) (operate.Transaction, error)
	Decide(ctx context.Context, id kite.MessageID, d Decision, note kite.Note) (operate.Transaction, error)
}

// Timekeeper knows the messages that wait for their time.
type Timekeeper interface {
	// Delayed lists them; Group of the filter is not looked at.
	Delayed(ctx context.Context, f operate.Filter) (operate.Delays, error)
	// Cancel ends the wait of one: it is never delivered.
	Cancel(ctx context.Context, id kite.MessageID, note kite.Note) (operate.Postponed, error)
}

// Director knows the consumer groups and what is delivered to them.
type Director interface {
	// Groups lists by topic and group; After and Limit of the filter are not looked at.
	Groups(ctx context.Context, f operate.Filter) (operate.Groups, error)
	Pause(ctx context.Context, topic, group string, paused bool, note kite.Note) (operate.Group, error)
	Seek(ctx context.Context, topic, group string, to operate.Seek, note kite.Note) (operate.Group, error)
}

// Undertaker knows the dead letters.
type Undertaker interface {
	// Letters lists those of one topic and group, with their messages when whole.
	Letters(ctx context.Context, f operate.Filter, whole bool) (operate.Letters, error)
	Letter(ctx context.Context, topic, group string, n kite.Seq) (operate.Letter, error)
	// Dispose requeues or discards.
	Dispose(ctx context.Context, topic, group string, n kite.Seq, requeue bool, note kite.Note) (operate.Letter, error)
}
