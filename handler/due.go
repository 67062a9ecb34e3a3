package handler

import (
	"fmt"
	"strconv"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// due returns when a message is due whose properties ask for a delay, Unix ms; 0 is now. bad is the answer to
// one that asks for what cannot be.
func due(head *protocol.HeaderView, nowMs int64) (dueMs int64, bad string) {
	asked := ""
	for key, value := range head.Properties {
		at, ok := int64(0), false
		switch string(key) {
		case kite.PropertyDelay:
			at, ok = afterDelay(value, nowMs)
			bad = "use a duration from 0s to 720h, as in 90s"
		case kite.PropertyDeliverAt:
			at, ok = deliverAt(value, nowMs)
			bad = "use a time in Unix ms, at most 30 days from now"
		default:
			continue
		}
		if !ok {
			return 0, fmt.Sprintf("%s%s=%.40q, %s", protocol.FeedbackDelay, key, value, bad)
		}
		if asked != "" && asked != string(key) {
			return 0, fmt.Sprintf("%s%s and %s, use one of them", protocol.FeedbackDelay, kite.PropertyDelay, kite.PropertyDeliverAt)
		}
		asked, dueMs = string(key), at
	}
	switch {
	case dueMs <= nowMs:
		return 0, ""
	case head.Fly:
		return 0, protocol.FeedbackDelay + "a fly message is not stored, it cannot wait"
	case head.ExpiredTime > 0 && head.ExpiredTime <= dueMs/1000:
		return 0, fmt.Sprintf("%sdue at %d ms, and expired by then: expiredTime=%d, use a later one or none", protocol.FeedbackDelay, dueMs, head.ExpiredTime)
	}
	return dueMs, ""
}

func afterDelay(value []byte, nowMs int64) (atMs int64, ok bool) {
	d, err := time.ParseDuration(string(value))
	if err != nil || d < 0 || d > kite.MaxDelay {
		return 0, false
	}
	return nowMs + d.Milliseconds(), true
}

func deliverAt(value []byte, nowMs int64) (atMs int64, ok bool) {
	at, err := strconv.ParseInt(string(value), 10, 64)
	return at, err == nil && at >= 0 && at <= nowMs+kite.MaxDelay.Milliseconds()
}
