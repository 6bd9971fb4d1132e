"""One HTML file in which a trained model can be touched: the explorer.

`tables` contracts models to what a browser needs, `page` writes them and the assets into one file. `assets/forward.js` is the
forward pass over these tables, `assets/state.js` what a reader can change, the other scripts what is drawn.
"""
