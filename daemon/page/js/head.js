// head
