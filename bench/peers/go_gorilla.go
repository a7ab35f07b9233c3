// The hub as users of gorilla/websocket write it: a goroutine per connection each way, one that owns the set.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o hub go_gorilla.go && ./hub PORT
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/gorilla/websocket"
)

type client struct{ send chan []byte }

var (
	register   = make(chan *client, 1024)
	unregister = make(chan *client, 1024)
	broadcast  = make(chan []byte, 4096)
	upgrader   = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	lastID     atomic.Int64
)

type incoming struct {
	Type string `json:"type"`
	Data struct {
		Room    string `json:"room"`
		Content string `json:"content"`
	} `json:"data"`
}

func hub() {
	clients := map[*client]bool{}
	remove := func(c *client) {
		if clients[c] {
			delete(clients, c)
			close(c.send)
		}
	}
	for {
		select {
		case c := <-register:
			clients[c] = true
		case c := <-unregister:
			remove(c)
		case message := <-broadcast:
			for c := range clients {
				select {
				case c.send <- message:
				default:
					remove(c)
				}
			}
		}
	}
}

func serve(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &client{make(chan []byte, 1024)}
	register <- c
	go func() {
		for message := range c.send {
			if conn.WriteMessage(websocket.TextMessage, message) != nil {
				break
			}
		}
		conn.Close()
	}()
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			break
		}
		var in incoming
		if json.Unmarshal(text, &in) != nil || in.Type != "room_message" {
			continue
		}
		out, _ := json.Marshal(map[string]any{
			"type": "room_message",
			"data": map[string]any{
				"id": lastID.Add(1), "room": "general", "user_id": 1, "username": "alice",
				"content": in.Data.Content, "message_type": "text", "created_at": "2023-11-20T10:30:00Z",
			},
			"timestamp": "2023-11-20T10:30:00Z",
		})
		broadcast <- out
	}
	unregister <- c
}

func main() {
	go hub()
	http.HandleFunc("/ws/chat", serve)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
