package protocol

import (
	"bytes"
	"testing"

	//lint:ignore SA1019 existing clients are built with the old API: this test shows that both read the same bytes
	oldproto "github.com/golang/protobuf/proto" //nolint:staticcheck // SA1019: as above
	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// TestOldAPI writes with the API that existing Go clients are built with and reads with ours, and the
// other way round.
func TestOldAPI(t *testing.T) {
	t.Parallel()
	header := &Header{
		MessageID: "0123456789abcdef0123456789abcdef", Topic: "trade", MessageType: "pay-succ", GroupID: "p-golden",
		ExpiredTime: -1, DeliverLimit: 100, Commit: true, CreateTime: 1700000000,
		Properties: map[string]string{"lang": "中文", "tradeno": "T-1001"},
	}
	ours, _, err := FramingG.Next(AppendMessage(nil, FramingG, 1, CmdBytesMessage, header, []byte("body")))
	if err != nil {
		t.Fatal(err)
	}

	var old wire.BytesMessage
	if err := oldproto.Unmarshal(ours.Payload, &old); err != nil {
		t.Fatal(err)
	}
	if h := old.Header; h.GetMessageId() != header.MessageID || h.GetExpiredTime() != -1 || !h.GetCommit() || h.Snappy != nil ||
		len(h.Properties) != 2 || h.Properties[0].GetValue() != "中文" || string(old.Body) != "body" {
		t.Errorf("the old API reads %v", &old)
	}

	theirs, err := oldproto.Marshal(&old)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(theirs, ours.Payload) {
		t.Errorf("the old API writes %x, we write %x", theirs, ours.Payload)
	}
	var want, got MessageView
	if err := want.Decode(ours.Payload); err != nil {
		t.Fatal(err)
	}
	if err := got.Decode(theirs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listHeader(&want.Header), listHeader(&got.Header)); diff != "" || string(got.Body) != "body" {
		t.Errorf("we read %q and %s", got.Body, diff)
	}
}
