package barrier_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/barrier"
)

func ExampleBarrier_InTx() {
	ctx := context.Background()
	db, err := sql.Open("mysql", "till@tcp(127.0.0.1:3306)/shop")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	b, err := barrier.New(db, barrier.MySQL, barrier.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Create(ctx); err != nil {
		fmt.Println(err)
		return
	}
	c, err := client.Dial(ctx, client.Options{
		ZKHost: "127.0.0.1:2181", Group: "p-till", Topics: []string{"message"},
		CheckListener: b.Check, // in every process of the group
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)

	m := &client.Message{ID: client.NewID(), Topic: "message", Type: "pay-succ", Body: []byte("member 42 paid")}
	err = b.InTx(ctx, c, m, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO payments (member, months) VALUES (?, ?)", 42, 12)
		return err
	})
	switch {
	case err == nil: // the payment is there, and the message on its way
	case errors.Is(err, client.Indeterminate): // not known: the check decides, or InTx again with the same m
	default: // there is no payment and no message: try again with a new ID
	}
}

// A group that is not always connected can have a webhook: the broker's [webhook.urls] names where this is served.
func ExampleBarrier_Check() {
	db, err := sql.Open("mysql", "till@tcp(127.0.0.1:3306)/shop")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	b, err := barrier.New(db, barrier.MySQL, barrier.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	http.HandleFunc("POST /checks", func(w http.ResponseWriter, r *http.Request) {
		var check struct {
			ID    string `json:"message_id"`
			Topic string `json:"topic"`
		}
		if err := json.NewDecoder(r.Body).Decode(&check); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		verdict := b.Check(r.Context(), client.Check{ID: check.ID, Topic: check.Topic})
		_ = json.NewEncoder(w).Encode(map[string]string{"outcome": verdict.String()})
	})
	fmt.Println(http.ListenAndServe("127.0.0.1:8080", nil))
}
