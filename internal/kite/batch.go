package kite

import "time"

// Batch is what one read of one connection, or one turn of a flow, asks the lane to journal.
// Whoever submits it gives it away until the lane hands it to its sinks; after the last sink it
// goes back to Release.
type Batch struct {
	// Owner gets the answers. The lane does not look at it.
	Owner any
	Items []Item
	// Arena holds the bytes that Items point into.
	Arena []byte
	// Received is when the requests came in.
	Received time.Time
	// Release takes the batch back for reuse; nil means nobody wants it.
	Release func(*Batch)
}

// Item is one request of a batch: a proposed record and, after the lane, what became of it.
type Item struct {
	Record
	// Opaque is the request's number on its connection.
	Opaque uint32
	// Name is the id as the client wrote it, for the answer.
	Name []byte
	// Verdict is Code 0 when the record is durable or was already (see Repeat), else why not.
	Verdict Code
	// Repeat is true when the same id or the same decision had been accepted before.
	Repeat bool
	// Outcome is, for a decision, how the transaction stands now.
	Outcome Outcome
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Items)
	b.Owner, b.Items, b.Arena, b.Received = nil, b.Items[:0], b.Arena[:0], time.Time{}
}
