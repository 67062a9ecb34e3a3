package kite

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"
)

// A message with one of these properties is delivered later.
const (
	// PropertyDeliverAt is the time before which a message is not delivered, Unix ms in decimal.
	PropertyDeliverAt = "kiteq-deliver-at"
	// PropertyDelay is how long after the broker got it a message is not delivered: a Go duration such as
	// "90s" or "1500ms".
	PropertyDelay = "kiteq-delay"
	// MaxDelay is the longest that a message may wait for its time.
	MaxDelay = 30 * 24 * time.Hour
)

// Minute returns the minute of a time in Unix ms, counted from 1970: delayed messages lie in the journal by
// the minute in which they are due.
func Minute(ms int64) int64 { return ms / 60_000 }

// DelayStream names the dense sequence of the messages that are due in a minute. '@' keeps it apart from topics.
func DelayStream(minute int64) string { return string(AppendDelayStream(nil, minute)) }

// AppendDelayStream appends the name that DelayStream returns.
func AppendDelayStream(dst []byte, minute int64) []byte {
	return strconv.AppendInt(append(dst, delayMark), minute, 10)
}

const delayMark = '@'

// AppendPlace appends a place in a minute as the Body of a delayed message's commit has it: an uvarint.
func AppendPlace(dst []byte, place Seq) []byte { return binary.AppendUvarint(dst, uint64(place)) }

// DecodePlace reads what AppendPlace wrote.
func DecodePlace(body []byte) (Seq, error) {
	place, n := binary.Uvarint(body)
	if n <= 0 || n != len(body) {
		return 0, errors.New("malformed place in a minute")
	}
	return Seq(place), nil
}

// DelayMinute returns the minute of the stream; ok is false for the streams of topics and of dead letters.
func DelayMinute(stream string) (minute int64, ok bool) {
	if stream == "" || stream[0] != delayMark {
		return 0, false
	}
	minute, err := strconv.ParseInt(stream[1:], 10, 64)
	return minute, err == nil
}
