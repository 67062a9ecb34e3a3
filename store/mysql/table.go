package mysql

import (
	"database/sql/driver"
	"strconv"

	"github.com/kiteq/kiteq/internal/kite"
)

// A Position is the number of the record in its journal, from 1 on, and the table where it lies: so a position
// alone leads to its row.
//
//	+-----------------------------------+-----------+
//	| serial (59 bits)                  | table (5) |
//	+-----------------------------------+-----------+
//
// Tables below maxShards have the messages and commits of a shard.
const tableBits = 5

const (
	preparedTable = maxShards + iota
	delayedTable
	decisionTable
	progressTable
	deadTable
	orderTable
	tableCount
)

func serialOf(pos kite.Position) uint64 { return uint64(pos) >> tableBits }
func tableOf(pos kite.Position) int     { return int(pos & (1<<tableBits - 1)) }
func at(serial uint64, table int) kite.Position {
	return kite.Position(serial<<tableBits | uint64(table))
}

// tableNames are those of all that can be; a database has the first Shards of the message tables.
var tableNames = func() (names [tableCount]string) {
	for i := range maxShards {
		names[i] = "kite_message_" + strconv.Itoa(i)
	}
	copy(names[maxShards:], []string{"kite_prepared", "kite_delayed", "kite_decision", "kite_progress", "kite_dead", "kite_order"})
	return names
}()

// tables returns the numbers of the tables of records that a database with so many shards has.
func tables(shards int) []int {
	all := make([]int, 0, shards+tableCount-maxShards)
	for i := range tableCount {
		if i < shards || i >= maxShards {
			all = append(all, i)
		}
	}
	return all
}

// shardOf spreads topics over the message tables: FNV-1a. It is part of the format.
func shardOf(topic string, shards int) int {
	h := uint32(2166136261)
	for i := range len(topic) {
		h = (h ^ uint32(topic[i])) * 16777619
	}
	return int(h % uint32(shards))
}

// home returns the table for a record, -1 for kinds that are not appended.
func home(r *kite.Record, shards int) int {
	switch r.Kind {
	case kite.KindMessage, kite.KindCommit:
		return shardOf(r.Topic, shards)
	case kite.KindPrepared:
		return preparedTable
	case kite.KindDelayed:
		return delayedTable
	case kite.KindRollback, kite.KindPark:
		return decisionTable
	case kite.KindProgress:
		return progressTable
	case kite.KindDead:
		return deadTable
	case kite.KindOrder:
		return orderTable
	}
	return -1
}

// The states of a row in kite_prepared or kite_delayed, which has the bytes of a message.
const (
	stateOpen       = 0 // undecided, or of a delayed one: it waits
	stateWaits      = 1 // prepared, decided: a delayed record leads to it
	stateCommitted  = 2 // a commit leads to it
	stateRolledBack = 3
	stateParked     = 4
	stateSpent      = 5 // delayed: its commit was trimmed
)

// columns are those that every table of records has, in the order of insertion and reading.
const columns = "position,kind,command,attempts,id,seq,time_ms,expires_ms,due_ms,base,topic,type,grp,body"

// hasBytesElsewhere tells whether the message of the record lies at its Ref.
func hasBytesElsewhere(r *kite.Record) bool {
	return r.Kind == kite.KindCommit || r.Kind == kite.KindDelayed && r.Ref != 0
}

// rowBytes is what a row counts beside its type, group and body.
const rowBytes = 160

func cost(r *kite.Record) int64 {
	return rowBytes + int64(len(r.Type)+len(r.Group)+len(r.Body))
}

// costColumns is cost in SQL.
const costColumns = "160+LENGTH(type)+LENGTH(grp)+LENGTH(body)"

// appendRow appends "(…)" for the record. Numbers are written; names and bytes become parameters.
func appendRow(text []byte, args []driver.NamedValue, journal uint32, r *kite.Record, topic driver.Value) ([]byte, []driver.NamedValue) {
	text = strconv.AppendUint(append(text, '('), uint64(journal), 10)
	text = strconv.AppendUint(append(text, ','), uint64(r.Position), 10)
	text = strconv.AppendUint(append(text, ','), uint64(r.Kind), 10)
	text = strconv.AppendUint(append(text, ','), uint64(r.Command), 10)
	text = strconv.AppendUint(append(text, ','), uint64(r.Limit), 10)
	text = strconv.AppendUint(append(text, ",?,"...), uint64(r.Seq), 10)
	text = strconv.AppendInt(append(text, ','), r.TimeMs, 10)
	text = strconv.AppendInt(append(text, ','), r.ExpiresMs, 10)
	text = strconv.AppendInt(append(text, ','), r.DueMs, 10)
	text = strconv.AppendUint(append(text, ','), uint64(r.Ref), 10)
	text = append(text, ",?,?,?,?"...)
	if r.Kind == kite.KindDelayed {
		text = strconv.AppendInt(append(text, ','), kite.Minute(r.DueMs), 10)
	}
	text = append(text, ')')
	for _, v := range [...]driver.Value{r.ID[:], topic, notNil(r.Type), notNil(r.Group), notNil(r.Body)} {
		args = append(args, driver.NamedValue{Ordinal: len(args) + 1, Value: v})
	}
	return text, args
}

// notNil makes an empty value of nil, which would be NULL.
func notNil(b []byte) driver.Value {
	if b == nil {
		return []byte{}
	}
	return b
}

// rowSize is how many bytes the row can need in a statement: each byte may have to be escaped.
func rowSize(r *kite.Record) int {
	return 256 + 2*(len(r.ID)+len(r.Topic)+len(r.Type)+len(r.Group)+len(r.Body))
}
