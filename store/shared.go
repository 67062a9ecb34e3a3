package store

// Shared is a store in which several brokers have their journals, and one may go on with another's. Every
// journal has one owner at a time: a claim raises its epoch, and the owner of an older epoch can write nothing
// more to it. It is safe for concurrent use.
type Shared interface {
	// Held lists the journals that owner has, "" meaning everybody's, the oldest first.
	Held(owner string) ([]Held, error)

	// Create begins a new journal, of which broker is the owner.
	Create(broker string) (SharedJournal, error)

	// Claim makes owner the one of the journal and opens it, unless its epoch is another one than h says:
	// then somebody was faster, and the error is ErrFenced.
	Claim(h Held, owner string) (SharedJournal, error)

	// Close releases the store. Its journals are closed before.
	Close() error
}

// SharedJournal is a journal of a Shared store.
type SharedJournal interface {
	Journal

	// Held says what was claimed. It does not change.
	Held() Held

	// Abandon ends an Append that waits for the store to come back, which then fails; the journal is poisoned.
	Abandon()
}

// Held says who has a journal.
type Held struct {
	Journal uint32 // its number in the store
	Broker  string // id of the broker that began it
	Owner   string // id of the broker that has it
	Epoch   uint64 // how often it was claimed
	SinceMs int64  // when the owner claimed it, Unix ms by the store's clock
}
