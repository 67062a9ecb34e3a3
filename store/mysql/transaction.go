package mysql

import (
	"database/sql/driver"
	"strconv"

	"github.com/kiteq/kiteq/internal/kite"
)

// packet is what goes to the server at once: statements with their parameters.
type packet struct {
	text []byte
	args []driver.NamedValue
}

// transaction is one write of a journal, as the packets that make it up: mostly one, and more when it is larger
// than the server takes.
//
//	START TRANSACTION; UPDATE kite_journal …fence…; INSERT …; UPDATE …; COMMIT
//
// The fence fails as a statement when somebody else has the journal, and so does a decision about a row that
// is not in the state for it: the server does nothing of a packet behind a statement that failed, so COMMIT is
// never reached. That takes the columns' NOT NULL and strict mode: UPDATE … SET head=NULL is an error.
type transaction struct {
	packets  []packet // of which the first n are in use
	n        int
	size     int // what the last packet may need, bytes
	limit    int
	from, to kite.Position // head before and after
	bytes    int64         // what it adds to those of the journal
}

// begin starts a transaction that moves head and adds to bytes and covers what the row of the journal says.
func (t *transaction) begin(j *Journal, head kite.Position, bytes int64, more string) {
	t.from, t.to, t.bytes = j.head, head, bytes
	t.start(j.db)
	t.write(";UPDATE kite_journal SET head=IF(epoch=")
	t.number(j.held.Epoch)
	t.write(" AND head=")
	t.number(uint64(t.from))
	t.write(",")
	t.number(uint64(head))
	t.write(",NULL),bytes=bytes+(")
	t.signed(bytes)
	t.write(")")
	t.write(more)
	t.write(" WHERE id=")
	t.number(uint64(j.held.Journal))
}

// start starts a transaction that has its fence at the end: see fence.
func (t *transaction) start(d *Database) {
	t.n = 0
	t.limit = min(d.packet-packetMargin, maxPacket)
	t.packet()
	t.write("START TRANSACTION")
}

// fence ends a transaction that moves no head. What comes before the fence does not keep the lane's writes
// waiting, which all begin at the journal's row.
func (t *transaction) fence(h Held, bytes int64) {
	t.next(128)
	t.write("UPDATE kite_journal SET bytes=IF(epoch=")
	t.number(h.Epoch)
	t.write(",bytes+(")
	t.signed(bytes)
	t.write("),NULL) WHERE id=")
	t.number(uint64(h.Journal))
	t.commit()
}

// maxPacket bounds a packet where the server would take more: both sides keep buffers of that size.
const maxPacket = 16 << 20

// packet starts the next packet. Its buffers are used again by the next transaction.
func (t *transaction) packet() {
	if t.n == len(t.packets) {
		t.packets = append(t.packets, packet{})
	}
	p := &t.packets[t.n]
	p.text = p.text[:0]
	clear(p.args) // they point to messages
	p.args = p.args[:0]
	t.n++
	t.size = 0
}

func (t *transaction) last() *packet { return &t.packets[t.n-1] }

func (t *transaction) write(text string) { t.last().text = append(t.last().text, text...) }

func (t *transaction) number(n uint64) { t.last().text = strconv.AppendUint(t.last().text, n, 10) }

func (t *transaction) signed(n int64) { t.last().text = strconv.AppendInt(t.last().text, n, 10) }

func (t *transaction) arg(v driver.Value) {
	p := t.last()
	p.args = append(p.args, driver.NamedValue{Ordinal: len(p.args) + 1, Value: v})
}

// positions writes "(1,2,3)".
func (t *transaction) positions(all []kite.Position) {
	for i, pos := range all {
		t.write("(,"[min(i, 1):][:1])
		t.number(uint64(pos))
	}
	t.write(")")
}

// next begins a statement that needs up to so many bytes, in another packet when this one has no room.
func (t *transaction) next(size int) {
	if t.size > 0 && t.size+size > t.limit {
		t.packet()
	}
	if len(t.last().text) > 0 {
		t.write(";")
	}
	t.size += size
}

// row begins an INSERT, or goes on with it when first is not set and there is room.
func (t *transaction) row(journal uint32, table int, first bool, r *kite.Record, topic driver.Value) {
	size := rowSize(r)
	if first = first || t.size+size > t.limit; first {
		t.next(size)
		t.write("INSERT INTO ")
		t.write(tableNames[table])
		t.write("(journal," + columns)
		if table == delayedTable {
			t.write(",minute")
		}
		t.write(")VALUES")
	} else {
		t.size += size
		t.write(",")
	}
	p := t.last()
	p.text, p.args = appendRow(p.text, p.args, journal, r, topic)
}

// move is the rows of a table whose state a batch changes by a kind of decision.
type move struct {
	table  int
	kind   kite.Kind
	places []kite.Position
}

// allowed is from which states the decision may be made, and the state that it leads to.
func (m *move) allowed() (from, to string) {
	switch m.kind {
	case kite.KindCommit:
		return "0,1,4", strconv.Itoa(stateCommitted)
	case kite.KindRollback:
		return "0,1,4", strconv.Itoa(stateRolledBack)
	case kite.KindDelayed:
		return "0,4", strconv.Itoa(stateWaits)
	}
	return "0,4", strconv.Itoa(stateParked)
}

// decide changes the states, and makes the transaction fail when not all of them could be.
func (t *transaction) decide(journal uint32, m *move) {
	from, to := m.allowed()
	t.next(256 + 24*len(m.places))
	t.write("UPDATE " + tableNames[m.table] + " SET state=" + to + " WHERE journal=")
	t.number(uint64(journal))
	t.write(" AND position IN")
	t.positions(m.places)
	t.write(" AND state IN(" + from + ");UPDATE kite_journal SET head=IF(ROW_COUNT()=")
	t.number(uint64(len(m.places)))
	t.write(",head,NULL) WHERE id=")
	t.number(uint64(journal))
}

func (t *transaction) commit() { t.write(";COMMIT") }
