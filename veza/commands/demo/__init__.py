"""What `veza demo` is made of: people, their talk and trade, music and pictures, all of it drawn from seeds, and the
code that brings it to life on a server (`running`). Nothing here is read by the server itself."""
