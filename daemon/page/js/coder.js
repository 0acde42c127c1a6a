// coder
