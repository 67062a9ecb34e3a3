package protocol

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// TestAppendMessageLengths compares with the standard encoder where the length of a nested message
// grows by a byte, and with more properties than fit without allocation.
func TestAppendMessageLengths(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 60, 61, 62, 110, 111, 112, 113, 114, 118, 119, 120, 121, 122, 127, 128, 16350, 16370, 16384, 20000} {
		checkAppend(t, fmt.Sprintf("topic of %d bytes", size), &Header{Topic: strings.Repeat("t", size), ExpiredTime: -1, DeliverLimit: -1})
		checkAppend(t, fmt.Sprintf("property of %d bytes", size), &Header{Properties: map[string]string{"k": strings.Repeat("v", size)}})
	}
	many := make(map[string]string)
	for i := range 40 {
		many[fmt.Sprint("key", i)] = fmt.Sprint("value", i)
	}
	checkAppend(t, "40 properties", &Header{Properties: many, Fly: true, Snappy: new(false)})
}

func checkAppend(t *testing.T, name string, h *Header) {
	t.Helper()
	std := &wire.StringMessage{
		Header: &wire.Header{
			MessageId: &h.MessageID, Topic: &h.Topic, MessageType: &h.MessageType, ExpiredTime: &h.ExpiredTime,
			DeliverLimit: &h.DeliverLimit, GroupId: &h.GroupID, Commit: &h.Commit, Fly: &h.Fly, Snappy: h.Snappy,
		},
		Body: new("body"),
	}
	for key, value := range h.Properties {
		std.Header.Properties = append(std.Header.Properties, &wire.Entry{Key: new(key), Value: new(value)})
	}
	slices.SortFunc(std.Header.Properties, func(a, b *wire.Entry) int { return strings.Compare(a.GetKey(), b.GetKey()) })
	payload, err := proto.Marshal(std)
	if err != nil {
		t.Fatal(err)
	}
	want := FramingG.AppendFrame(nil, 5, CmdStringMessage, payload)
	if got := AppendMessage(nil, FramingG, 5, CmdStringMessage, h, []byte("body")); !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot  %x\nwant %x", name, got, want)
	}
}
